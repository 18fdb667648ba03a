"""The measures of the surface: rows of the trunk and rings of the limbs, on the left (m)."""

from typing import NamedTuple


class TrunkRow(NamedTuple):
    """A row of the trunk: half an ellipse from the front to the back, on the left."""

    front: tuple[float, float]  # y and z of its foremost point
    back: tuple[float, float]  # y and z of its rearmost point
    width: float  # x of the outermost point


TRUNK = (
    TrunkRow((-0.098, 0.066), (-0.100, -0.080), 0.166),
    TrunkRow((-0.050, 0.092), (-0.062, -0.122), 0.170),
    TrunkRow((-0.005, 0.101), (-0.015, -0.130), 0.165),
    TrunkRow((0.045, 0.100), (0.035, -0.108), 0.152),
    TrunkRow((0.095, 0.097), (0.090, -0.090), 0.140),
    TrunkRow((0.145, 0.097), (0.145, -0.084), 0.135),
    TrunkRow((0.195, 0.103), (0.200, -0.092), 0.142),
    TrunkRow((0.248, 0.112), (0.255, -0.108), 0.155),
    TrunkRow((0.298, 0.119), (0.305, -0.121), 0.168),
    TrunkRow((0.345, 0.115), (0.350, -0.127), 0.178),
    TrunkRow((0.388, 0.102), (0.392, -0.126), 0.182),
    TrunkRow((0.428, 0.081), (0.432, -0.117), 0.176),
    TrunkRow((0.462, 0.058), (0.472, -0.102), 0.156),
    TrunkRow((0.482, 0.042), (0.502, -0.084), 0.098),
    TrunkRow((0.500, 0.036), (0.526, -0.072), 0.062),
    TrunkRow((0.524, 0.038), (0.552, -0.065), 0.055),
    TrunkRow((0.541, 0.056), (0.578, -0.066), 0.055),
    TrunkRow((0.546, 0.090), (0.602, -0.080), 0.058),
    TrunkRow((0.573, 0.099), (0.628, -0.092), 0.066),
    TrunkRow((0.604, 0.102), (0.654, -0.099), 0.072),
    TrunkRow((0.638, 0.098), (0.680, -0.101), 0.076),
    TrunkRow((0.672, 0.099), (0.704, -0.098), 0.077),
    TrunkRow((0.707, 0.090), (0.727, -0.088), 0.073),
    TrunkRow((0.736, 0.067), (0.746, -0.067), 0.060),
    TrunkRow((0.754, 0.036), (0.756, -0.036), 0.036),
)
CROWN = (0.0, 0.760, 0.0)
CROTCH = (0.0, -0.122, -0.008)
COLUMNS = 11  # vertices of a row, from the front over the left side to the back
NECK_ROW, HEAD_ROW = 14, 16
# The arm leaves the trunk through a hole two faces wide and three rows high.
ARMPIT_ROW, SHOULDER_ROW = 9, 12
ARM_COLUMNS = (4, 5, 6)


class LimbRing(NamedTuple):
    """A ring around a leg or an arm: its place along the limb, its middle and its radii."""

    along: float
    middle: tuple[float, float]
    radii: tuple[float, float]


# Along y, from the thigh to the ankle; (x, z).
LEG = (
    LimbRing(-0.150, (0.091, -0.008), (0.085, 0.087)),
    LimbRing(-0.205, (0.091, -0.004), (0.082, 0.085)),
    LimbRing(-0.265, (0.091, 0.000), (0.075, 0.079)),
    LimbRing(-0.330, (0.091, 0.004), (0.067, 0.070)),
    LimbRing(-0.390, (0.091, 0.006), (0.059, 0.062)),
    LimbRing(-0.440, (0.091, 0.007), (0.054, 0.058)),
    LimbRing(-0.485, (0.091, 0.005), (0.052, 0.055)),
    LimbRing(-0.535, (0.092, -0.005), (0.052, 0.055)),
    LimbRing(-0.595, (0.093, -0.013), (0.053, 0.056)),
    LimbRing(-0.670, (0.093, -0.015), (0.046, 0.049)),
    LimbRing(-0.755, (0.092, -0.016), (0.035, 0.038)),
    LimbRing(-0.832, (0.092, -0.018), (0.031, 0.036)),
)


class FootRing(NamedTuple):
    """A ring around a foot, tilted: y and z of its top and of its bottom, x and half width."""

    top: tuple[float, float]
    bottom: tuple[float, float]
    middle: float
    width: float


SOLE = -0.940  # m; y of the ground
FOOT = (
    FootRing((-0.866, 0.034), (-0.890, -0.066), 0.092, 0.036),
    FootRing((-0.880, 0.062), (-0.936, -0.068), 0.093, 0.036),
    FootRing((-0.890, 0.088), (-0.946, -0.012), 0.096, 0.036),
    FootRing((-0.901, 0.112), (-0.946, 0.052), 0.099, 0.041),
    FootRing((-0.911, 0.138), (-0.946, 0.110), 0.102, 0.043),
    FootRing((-0.920, 0.158), (-0.944, 0.150), 0.103, 0.036),
)
TOE = (0.103, -0.931, 0.172)

# Along x, from the shoulder to the finger tips; (y, z).
ARM = (
    LimbRing(0.200, (0.421, -0.018), (0.066, 0.063)),
    LimbRing(0.235, (0.427, -0.018), (0.059, 0.058)),
    LimbRing(0.285, (0.430, -0.018), (0.052, 0.053)),
    LimbRing(0.340, (0.430, -0.018), (0.048, 0.050)),
    LimbRing(0.395, (0.430, -0.019), (0.043, 0.045)),
    LimbRing(0.440, (0.430, -0.020), (0.039, 0.042)),
    LimbRing(0.485, (0.430, -0.017), (0.041, 0.044)),
    LimbRing(0.540, (0.430, -0.013), (0.039, 0.042)),
    LimbRing(0.610, (0.430, -0.009), (0.031, 0.035)),
    LimbRing(0.674, (0.430, -0.006), (0.023, 0.030)),
    LimbRing(0.702, (0.429, -0.002), (0.023, 0.037)),
    LimbRing(0.732, (0.428, 0.001), (0.022, 0.044)),
    LimbRing(0.764, (0.427, 0.002), (0.019, 0.046)),
    LimbRing(0.797, (0.426, 0.001), (0.016, 0.043)),
    LimbRing(0.830, (0.425, 0.000), (0.014, 0.037)),
    LimbRing(0.855, (0.424, -0.001), (0.011, 0.027)),
)
FINGER_TIP = (0.870, 0.423, -0.001)
# The thumb leaves the hand through a hole one face wide and two rings long, ahead.
THUMB_RING, THUMB_COLUMN = 10, 2
THUMB = (
    ((0.732, 0.424, 0.062), 0.016),
    ((0.749, 0.422, 0.078), 0.014),
    ((0.762, 0.420, 0.090), 0.010),
)
THUMB_TIP = (0.769, 0.419, 0.097)
THUMB_AXIS = (0.66, -0.08, 0.75)
