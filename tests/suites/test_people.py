"""People drawn from a seed: labels that fit the pictures, poses a body can take, and the cache."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from mtlbench.data.cache import cache_directory, cached_arrays
from mtlbench.models.body import PARTS, make_body
from mtlbench.models.rotations import from_6d
from mtlbench.models.smpl import JOINTS, SMPL
from mtlbench.suites import people as package
from mtlbench.suites.people import (
    CLASSES,
    PALETTE,
    People,
    draw_people,
    project,
    render_mesh,
)
from mtlbench.suites.people.poses import LIMITS, draw_pose, euler_angles, rotations

SIZE = 64
COUNT = 96


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache of our own, which everybody else's is left out of."""
    directory = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MTLBENCH_CACHE", str(directory))
        yield directory


@pytest.fixture(scope="module")
def people() -> People:
    return draw_people(COUNT, SIZE, seed=7)


@pytest.fixture(scope="module")
def bodies(people: People) -> np.ndarray:
    """The vertices [N, V, 3] that an SMPL layer makes of the labels."""
    rotation = from_6d(torch.tensor(people.pose).view(-1, 24, 6))
    with torch.no_grad():
        return SMPL(make_body())(torch.tensor(people.shape), rotation).vertices.numpy()


def fields(people: People) -> dict[str, np.ndarray]:
    return vars(people)


def labels_by_casting_rays(vertices: np.ndarray, camera: np.ndarray, size: int) -> np.ndarray:
    """The classes [H, W] at the pixels' centres, one ray each (Möller & Trumbore 1997)."""
    body = make_body()
    distance, zoom, right, up = camera.astype(np.float64)
    eye = np.array([0.0, 0.0, distance])
    a, b, c = (vertices.astype(np.float64)[body.faces[:, k]] for k in range(3))
    e, f = b - a, c - a
    labels = np.zeros((size, size), np.uint8)
    # No ray beside all vertices meets a face.
    tangents = vertices[:, :2] / (distance - vertices[:, 2:]) - (right, up)
    low, high = tangents.min(0) * zoom, tangents.max(0) * zoom
    rows = range(int((0.5 - high[1]) * size), int((0.5 - low[1]) * size) + 1)
    columns = range(int((0.5 + low[0]) * size), int((0.5 + high[0]) * size) + 1)
    for row in rows:
        for column in columns:
            ray = np.array(
                [
                    ((column + 0.5) / size - 0.5) / zoom + right,
                    (0.5 - (row + 0.5) / size) / zoom + up,
                    -1.0,
                ]
            )
            h = np.cross(ray, f)
            determinant = (e * h).sum(1)
            with np.errstate(divide="ignore", invalid="ignore"):
                second = ((eye - a) * h).sum(1) / determinant
                q = np.cross(eye - a, e)
                third = q @ ray / determinant
                depth = (f * q).sum(1) / determinant
                met = (second >= 0) & (third >= 0) & (second + third <= 1) & (depth > 0)
            if met.any():
                face = int(np.where(met, depth, np.inf).argmin())
                shares = np.array([1 - second[face] - third[face], second[face], third[face]])
                labels[row, column] = 1 + (shares @ body.weights[body.faces[face]]).argmax()
    return labels


def test_arrays_have_the_sizes_and_types_that_are_promised(people: People) -> None:
    expected = {
        "images": ((COUNT, 3, SIZE, SIZE), np.uint8),
        "parts": ((COUNT, SIZE, SIZE), np.uint8),
        "shape": ((COUNT, 10), np.float32),
        "pose": ((COUNT, 144), np.float32),
        "cameras": ((COUNT, 4), np.float32),
    }
    assert {name: (a.shape, a.dtype.type) for name, a in fields(people).items()} == expected


def test_the_parts_are_what_rays_through_the_pixels_meet(
    people: People, bodies: np.ndarray
) -> None:
    """Shape, pose, camera and parts fit together: rays cast at the layer's body in float64 meet
    the same parts."""
    index = 5
    expected = labels_by_casting_rays(bodies[index], people.cameras[index], SIZE)
    assert (expected > 0).mean() > 0.05
    # A ray within a rounding of a border may go either way.
    assert (people.parts[index] != expected).sum() <= 2


@pytest.mark.parametrize(("first", "count"), [(30, 4), (64, 3)])
def test_a_person_depends_neither_on_how_many_are_drawn_nor_on_the_first(
    people: People, first: int, count: int
) -> None:
    alone = draw_people(count, SIZE, seed=7, first=first)
    for name, array in fields(alone).items():
        np.testing.assert_array_equal(array, fields(people)[name][first : first + count])


def test_another_seed_and_another_index_give_another_person(people: People) -> None:
    other = draw_people(1, SIZE, seed=8)
    for name, array in fields(other).items():
        assert (array[0] != fields(people)[name][0]).any()
        assert len(np.unique(fields(people)[name], axis=0)) == COUNT


def test_a_person_is_the_same_in_a_picture_of_any_size(people: People) -> None:
    small, large = (draw_people(2, size, seed=7) for size in (32, 96))
    for name in ("shape", "pose", "cameras"):
        np.testing.assert_array_equal(fields(large)[name], fields(people)[name][:2])
        np.testing.assert_array_equal(fields(small)[name], fields(people)[name][:2])
    # Every third centre of a pixel is a centre of a pixel in the smaller picture; but for borders,
    # which are rounded at another scale, they show the same.
    assert (large.parts[:, 1::3, 1::3] != small.parts).sum() <= 2
    pixels = large.images.reshape(2, 3, 32, 3, 32, 3).mean((3, 5))
    # The grain is drawn anew, and edges in the room are not smoothed.
    assert np.abs(pixels - small.images).mean() < 8


def test_everybody_is_seen_from_head_to_foot(people: People, bodies: np.ndarray) -> None:
    for index in range(COUNT):
        place = project(bodies[index], people.cameras[index], SIZE)
        assert place.min() >= 0
        assert place.max() <= SIZE
        # And is not lost in it.
        assert np.ptp(place, axis=0).max() > 0.8 * SIZE


def test_every_part_is_seen_often(people: People) -> None:
    assert len(CLASSES) == len(PALETTE) == len(set(PALETTE)) == 25
    seen = np.array([np.isin(np.arange(25), parts) for parts in people.parts])
    # The neck hides behind a chin, hands behind the back, fingers and toes between pixels.
    assert (seen.mean(0) > 0.4).all()
    assert seen[:, CLASSES.index("head")].all()
    share = (people.parts > 0).mean((1, 2))
    assert 0.04 < share.min() < share.max() < 0.6


def test_a_body_stands_out_from_the_room(people: People) -> None:
    """Across the border of the body colours differ more than within the body and the room."""
    images, parts = people.images.astype(float), people.parts
    step = np.abs(images[..., 1:] - images[..., :-1]).mean(1)
    border = (parts[..., 1:] > 0) != (parts[..., :-1] > 0)
    assert step[border].mean() > 2.5 * step[~border].mean()


def test_shapes_are_those_of_a_population(people: People) -> None:
    # 960 draws: means within 4 standard errors; cut at 2.5, a standard normal has deviation 0.98.
    assert np.abs(people.shape).max() <= 2.5
    assert abs(people.shape.mean()) < 4 / np.sqrt(people.shape.size)
    assert people.shape.std() == pytest.approx(0.98, abs=0.1)


def test_every_joint_stays_within_its_limits(people: People) -> None:
    rotation = from_6d(torch.tensor(people.pose).double().view(-1, 24, 6)).numpy()
    assert within_limits(rotation, LIMITS).all()


def within_limits(rotation: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """True where either of the two triples of angles that give a rotation is within limits."""
    x, y, z = np.moveaxis(euler_angles(rotation), -1, 0)
    # float32 rounds a matrix by 6e-8; near 90° about y, that is up to the root of it in rad.
    margin = 0.02
    room = limits[..., 1] - limits[..., 0] + 2 * margin
    first, second = (
        ((np.stack(angles, -1) - limits[..., 0] + margin) % 360 <= room).all(-1)
        for angles in ((x, y, z), (x + 180, 180 - y, z + 180))
    )
    return first | second


def test_angles_and_rotations_are_inverse_to_each_other() -> None:
    random = np.random.default_rng(0)
    angles = random.uniform((-224, -89, -179), (134, 89, 179), (500, 3))
    np.testing.assert_allclose(euler_angles(rotations(angles)), angles, atol=1e-9)


def test_a_rotation_turns_about_z_then_y_then_x() -> None:
    about = {
        "x": [[1, 0, 0], [0, 0, -1], [0, 1, 0]],
        "y": [[0, 0, 1], [0, 1, 0], [-1, 0, 0]],
        "z": [[0, -1, 0], [1, 0, 0], [0, 0, 1]],
    }
    for k, matrix in enumerate(about.values()):
        np.testing.assert_allclose(rotations(90.0 * np.eye(3)[k]), matrix, atol=1e-12)
    product = np.array(about["x"]) @ about["y"] @ about["z"]
    np.testing.assert_allclose(rotations(np.full(3, 90.0)), product, atol=1e-12)


def test_limits_of_the_right_mirror_those_of_the_left() -> None:
    flip = np.diag([-1.0, 1.0, 1.0])
    random = np.random.default_rng(0)
    for name in JOINTS:
        left, right = JOINTS.index(name), JOINTS.index(name.replace("left", "right"))
        if name.startswith("left"):
            angles = random.uniform(LIMITS[left, :, 0], LIMITS[left, :, 1])
            assert within_limits(flip @ rotations(angles) @ flip, LIMITS[right])


def test_knees_bend_backwards_and_elbows_forwards(people: People) -> None:
    rotation = from_6d(torch.tensor(people.pose).view(-1, 24, 6)).numpy()
    for side, sign in (("left", 1), ("right", -1)):
        knee = rotation[:, JOINTS.index(f"{side}_knee")]
        elbow = rotation[:, JOINTS.index(f"{side}_elbow")]
        shin, forearm = knee @ [0.0, -1.0, 0.0], elbow @ [sign, 0.0, 0.0]
        assert (shin[:, 2] <= 1e-6).all()
        assert (forearm[:, 2] >= -1e-6).all()
        # Hinges: neither leaves its plane.
        np.testing.assert_allclose(shin[:, 0], 0, atol=1e-6)
        np.testing.assert_allclose(forearm[:, 1], 0, atol=1e-6)


def test_everybody_faces_the_camera_more_or_less(people: People) -> None:
    """Yaw of at most 40°, evenly, whatever the person does."""
    root = from_6d(torch.tensor(people.pose)[:, :6]).numpy()
    yaw = np.rad2deg(np.arcsin(root[:, 0, 2]))
    assert np.abs(yaw).max() <= 40.01
    assert min((yaw < -15).sum(), (yaw > 15).sum(), (np.abs(yaw) < 15).sum()) > COUNT / 6


def test_arms_are_up_and_down_and_legs_are_straight_and_bent() -> None:
    random = np.random.default_rng(0)
    rotation = torch.tensor(rotations(np.array([draw_pose(random) for _ in range(300)])))
    rotation[:, 0] = torch.eye(3)
    layer = SMPL(make_body(), dtype=torch.float64)
    joints = layer(torch.zeros(300, 10, dtype=torch.float64), rotation).joints.numpy()
    place = {name: joints[:, k] for k, name in enumerate(JOINTS)}
    for side in ("left", "right"):
        raised = place[f"{side}_wrist"][:, 1] > place["head"][:, 1]
        hanging = place[f"{side}_wrist"][:, 1] < place["spine1"][:, 1]
        assert 0.08 < raised.mean() < hanging.mean() < 0.85
        lifted = place[f"{side}_knee"][:, 1] > place[f"{side}_hip"][:, 1] - 0.2
        assert 0.03 < lifted.mean() < 0.2


def test_a_point_is_projected_as_the_camera_says() -> None:
    # 3 m ahead of a camera 4 m away: tangents 0.5 / 3 and 0.3 / 3.
    place = project([[0.5, 0.3, 1.0]], [4.0, 2.0, 0.1, -0.05], 100)
    expected = [100 * (0.5 + 2 * (0.5 / 3 - 0.1)), 100 * (0.5 - 2 * (0.1 + 0.05))]
    np.testing.assert_allclose(place, [expected], rtol=1e-12)


def test_a_mesh_laid_over_a_picture_covers_the_person(people: People, bodies: np.ndarray) -> None:
    for index in range(4):
        overlay = render_mesh(bodies[index], SIZE, camera=people.cameras[index])
        assert overlay.shape == (SIZE, SIZE, 4)
        # A pixel's centre and most of its samples agree but on a few edges.
        differ = (overlay[..., 3] > 127) != (people.parts[index] > 0)
        assert differ.sum() < 0.05 * (people.parts[index] > 0).sum()


def test_a_body_that_is_not_turned_faces_us_its_head_up_and_its_left_on_our_right() -> None:
    body = make_body()
    colours = np.zeros((len(body.template), 3))
    colours[body.template[:, 0] > 0.3, 0] = 1  # the left arm in red
    colours[body.template[:, 1] > 0.55, 1] = 1  # the head in green
    colours[(body.template[:, 1] < -0.87) & (body.template[:, 2] > 0.1), 2] = 1  # toes in blue
    picture = render_mesh(body.template, 99, colours=colours).astype(int)
    row, column = np.mgrid[:99, :99]
    opaque = picture[..., 3] == 255

    def middle(channel: int) -> tuple[float, float]:
        bright = opaque & (picture[..., channel] > 60) & (picture[..., :3].sum(-1) < 2 * 256)
        return row[bright].mean(), column[bright].mean()

    assert middle(0)[1] > 75
    assert middle(1)[0] < 25
    assert middle(2)[0] > 85
    # The nose is nearer than the nape.
    assert not opaque[0].any()
    assert (picture[~opaque & (picture[..., 3] == 0)] == 0).all()


def test_a_mesh_without_a_camera_fills_the_picture() -> None:
    for scale in (0.1, 1.0):
        opacity = render_mesh(scale * make_body().template, 80)[..., 3]
        columns = np.flatnonzero(opacity.any(0))
        assert 0.9 * 80 < np.ptp(columns) + 1 <= 80


# ------------------------------------------------------------------------------------- the cache


KEY = {"what": "numbers", "version": 1, "count": 3}


class Maker:
    """Makes arrays and counts how often."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> dict[str, np.ndarray]:
        self.calls += 1
        return {"numbers": np.arange(1000.0), "flags": np.array([True, False])}


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "deep" / "cache"
    monkeypatch.setenv("MTLBENCH_CACHE", str(directory))
    return directory


def equal(arrays: dict[str, np.ndarray]) -> bool:
    made = Maker()()
    return arrays.keys() == made.keys() and all(
        (arrays[name] == made[name]).all() and arrays[name].dtype == made[name].dtype
        for name in made
    )


def test_arrays_are_made_once_and_then_read(empty_cache: Path) -> None:
    make = Maker()
    assert equal(cached_arrays(KEY, make))
    assert equal(cached_arrays(dict(reversed(KEY.items())), make))  # whatever the order
    assert make.calls == 1
    (path,) = empty_cache.iterdir()
    with np.load(path, allow_pickle=False) as file:
        assert {"numbers", "flags"} < set(file)


@pytest.mark.parametrize("change", [{"version": 2}, {"count": 4}, {"seed": 0}])
def test_another_key_is_another_file(empty_cache: Path, change: dict[str, int]) -> None:
    make = Maker()
    cached_arrays(KEY, make)
    cached_arrays({**KEY, **change}, make)
    assert make.calls == len(list(empty_cache.iterdir())) == 2


@pytest.mark.parametrize("damage", ["cut", "flipped", "emptied", "replaced", "renamed"])
def test_a_damaged_file_is_made_again(empty_cache: Path, damage: str) -> None:
    make = Maker()
    cached_arrays(KEY, make)
    (path,) = empty_cache.iterdir()
    content = bytearray(path.read_bytes())
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        content[len(content) // 2] ^= 0xFF
        path.write_bytes(content)
    elif damage == "emptied":
        path.write_bytes(b"")
    elif damage == "replaced":
        path.write_text("something else")
    else:
        cached_arrays({**KEY, "version": 2}, lambda: {"numbers": np.zeros(1)})
        (other,) = set(empty_cache.iterdir()) - {path}
        other.replace(path)
    assert equal(cached_arrays(KEY, make))
    assert make.calls == 2
    assert equal(cached_arrays(KEY, make))
    assert make.calls == 2


def test_a_cache_that_cannot_be_written_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MTLBENCH_CACHE", str(tmp_path / "file" / "cache"))
    make = Maker()
    assert equal(cached_arrays(KEY, make))
    assert equal(cached_arrays(KEY, make))
    assert make.calls == 2


def test_a_write_that_fails_leaves_nothing_behind(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("numpy.savez", full)
    assert equal(cached_arrays(KEY, Maker()))
    assert list(empty_cache.iterdir()) == []


def test_the_cache_is_in_the_home_directory_unless_told_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for value in (None, ""):
        if value is None:
            monkeypatch.delenv("MTLBENCH_CACHE")
        else:
            monkeypatch.setenv("MTLBENCH_CACHE", value)
        assert cache_directory() == tmp_path / ".cache" / "mtlbench"


def test_people_drawn_before_are_read_from_the_cache(
    people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("drawn again")

    monkeypatch.setattr(package, "draw_batch", refuse)
    again = draw_people(COUNT, SIZE, seed=7)
    for name, array in fields(again).items():
        np.testing.assert_array_equal(array, fields(people)[name])
    with pytest.raises(AssertionError, match="drawn again"):
        draw_people(COUNT, SIZE, seed=7, first=1)


def test_parts_are_named_as_in_the_body() -> None:
    assert list(CLASSES) == ["background", *PARTS]
