"""The package's own body: a closed, symmetric human surface."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from body_geometry import mirror_image, other_side, volume

from mtlbench.models.body import PARTS, SHAPES, make_body, vertex_parts
from mtlbench.models.smpl import PARENTS, BodyModel

FLIP = np.array([-1.0, 1.0, 1.0])


def test_the_surface_is_closed_and_its_faces_agree_on_what_is_outside(body: BodyModel) -> None:
    edges = Counter((int(face[k]), int(face[(k + 1) % 3])) for face in body.faces for k in range(3))
    assert set(edges.values()) == {1}
    assert all((b, a) in edges for a, b in edges)
    # Euler's formula for a sphere: one piece, without a handle.
    assert len(body.template) - len(edges) // 2 + len(body.faces) == 2
    assert set(body.faces.ravel()) == set(range(len(body.template)))


def test_it_has_about_a_thousand_vertices_and_the_layout_of_a_body_file(
    body: BodyModel, tmp_path: Path
) -> None:
    count = len(body.template)
    assert 900 <= count <= 1300
    assert body.shape_directions.shape == (count, 3, len(SHAPES)) == (count, 3, 10)
    assert body.pose_directions.shape == (count, 3, 207)
    assert body.parents == PARENTS
    body.save(tmp_path / "body.npz")
    read = BodyModel.load(tmp_path / "body.npz")
    for name, array in vars(body).items():
        np.testing.assert_array_equal(getattr(read, name), array)


def test_it_is_as_tall_as_broad_and_as_heavy_as_a_human(body: BodyModel) -> None:
    extent = body.template.max(0) - body.template.min(0)
    assert extent[1] == pytest.approx(1.70, abs=0.01)
    # The span of the arms is about the height.
    assert extent[0] == pytest.approx(extent[1], rel=0.05)
    # Water weighs 1000 kg/m³ and a human little less: 50 to 90 kg, positive as faces look out.
    assert 0.05 < volume(body.template, body.faces) < 0.09
    head = body.template[vertex_parts(body) == PARTS.index("head")]
    assert 6.5 < extent[1] / np.ptp(head[:, 1]) < 8.5  # "seven and a half heads"


def test_it_is_its_own_mirror_image(body: BodyModel) -> None:
    mirrored, swapped = mirror_image(body), other_side()
    faces = {tuple(np.roll(face, -face.argmin())) for face in body.faces}
    turned = mirrored[body.faces[:, ::-1]]
    assert {tuple(np.roll(face, -face.argmin())) for face in turned} == faces
    parts = vertex_parts(body)
    np.testing.assert_array_equal(swapped[parts[mirrored]], parts)
    np.testing.assert_array_equal(body.joint_regressor[:, mirrored][swapped], body.joint_regressor)
    # Sums in another order, of numbers up to 1 and of some below 0.1 m.
    np.testing.assert_allclose(body.weights[mirrored][:, swapped], body.weights, atol=1e-15)
    np.testing.assert_allclose(
        body.shape_directions[mirrored] * FLIP[:, None], body.shape_directions, atol=1e-15
    )


def test_it_is_made_anew_to_the_same_bits_and_cannot_be_changed(body: BodyModel) -> None:
    again = make_body.__wrapped__()
    for name, array in vars(body).items():
        np.testing.assert_array_equal(getattr(again, name), array)
    assert make_body() is body
    with pytest.raises(ValueError, match="read-only"):
        body.template[0] = 0
