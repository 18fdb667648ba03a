"""Meshes in pictures of their own, or laid over the picture of a person."""

import numpy as np
import numpy.typing as npt
import torch

from mtlbench.models.body import make_body
from mtlbench.suites.people.drawing import Framing, point_camera
from mtlbench.suites.people.painting import lit, vertex_normals
from mtlbench.suites.people.raster import Camera, rasterise

_SAMPLES = 3
_SUN = (0.35, 0.55, 0.76)
_SUNLIGHT, _SKYLIGHT = 0.75, 0.35


def project(vertices: npt.ArrayLike, camera: npt.ArrayLike, size: int) -> npt.NDArray[np.float64]:
    """Places of vertices [V, 3] (m) in the picture: columns and rows [V, 2] (px), the centre of
    the first pixel at (½, ½).

    Args:
        vertices: in the axes of a Camera, as an SMPL layer gives them for a predicted pose.
        camera: one row of `People.cameras` [4].
        size: of the picture (px).
    """
    fields = Camera(*torch.tensor(np.asarray(camera, np.float64))[:, None])
    points = fields.project(torch.tensor(np.asarray(vertices, np.float64))[None])
    return size * points[0, :, :2].numpy()


def render_mesh(
    vertices: npt.ArrayLike,
    size: int,
    *,
    camera: npt.ArrayLike | None = None,
    faces: npt.ArrayLike | None = None,
    colours: npt.ArrayLike = (0.62, 0.72, 0.86),
) -> npt.NDArray[np.uint8]:
    """A mesh in plain light: RGBA [H, W, 4], clear where it is not.

    Args:
        vertices: [V, 3] (m), in the axes of a Camera.
        size: H and W (px).
        camera: one row of `People.cameras` [4]; without it, the mesh fills the picture.
        faces: [F, 3], those of `make_body()` unless given.
        colours: RGB in [0, 1], of the mesh [3] or of each vertex [V, 3].
    """
    mesh = torch.tensor(np.asarray(vertices, np.float32))[None]
    corners = torch.tensor(np.asarray(make_body().faces if faces is None else faces, np.int64))
    if camera is None:
        view = point_camera(mesh, Framing(5.0, 0.95, 0.0, 0.0))
    else:
        view = Camera(*torch.tensor(np.asarray(camera, np.float32))[:, None])
    fine = size * _SAMPLES
    samples = rasterise(view.project(mesh), corners, fine)
    normals = torch.nn.functional.normalize(samples.mix(vertex_normals(mesh, corners)[0]), dim=-1)
    paint = torch.tensor(np.asarray(colours, np.float32)).expand(mesh.shape[1], 3)
    light = lit(normals, torch.tensor(_SUN), torch.tensor(_SUNLIGHT), torch.tensor(_SKYLIGHT))
    canvas = torch.zeros(fine * fine, 4)
    canvas[samples.place] = torch.cat(
        (samples.mix(paint) * light, torch.ones_like(light[:, :1])), 1
    )
    picture = canvas.view(size, _SAMPLES, size, _SAMPLES, 4).mean((1, 3))
    # Colours are the means over the samples that show the mesh; how many do is the opacity.
    opacity = picture[..., 3:]
    picture = torch.cat((picture[..., :3] / opacity.clamp(min=1e-6), opacity), -1)
    return (255 * picture).round().clamp(0, 255).to(torch.uint8).numpy()
