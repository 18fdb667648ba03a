"""Suites of people: labels that belong to one body, mirrored as one, and runs to the end."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import trained

from mtlbench.data.variants import Variant
from mtlbench.errors import UserError
from mtlbench.models.body import PARTS, make_body
from mtlbench.models.rotations import from_6d
from mtlbench.models.smpl import SMPL
from mtlbench.study.plan import plan
from mtlbench.suites.bodies import Bodies
from mtlbench.suites.build import build_suite
from mtlbench.suites.people import CLASSES, draw_people
from mtlbench.suites.people.suite import mirror_pose

TINY = {"epochs": 1, "train_size": 32, "validation_size": 8, "test_size": 8, "channels": 4}


def batch() -> dict[str, torch.Tensor]:
    people = draw_people(8, 32, seed=3)
    return {
        "segmentation": torch.from_numpy(people.parts).long(),
        "pose": torch.from_numpy(people.pose),
        "shape": torch.from_numpy(people.shape),
    }


def surface(shape: torch.Tensor, pose: torch.Tensor) -> torch.Tensor:
    made = SMPL(make_body(), dtype=torch.float64)(shape, from_6d(pose.view(-1, 24, 6)))
    return made.vertices - made.joints[:, :1]


# --- labels -------------------------------------------------------------------------------------


def test_the_surface_is_that_of_shape_and_pose_from_the_root_on() -> None:
    targets = batch()
    completed = Bodies().complete(targets)
    assert set(completed) == {"segmentation", "pose", "shape", "vertices"}
    expected = surface(targets["shape"], targets["pose"])
    torch.testing.assert_close(  # float32 against float64
        completed["vertices"].double(), expected, rtol=0, atol=2e-6
    )


def test_wrong_parameters_make_a_wrong_surface() -> None:
    suite = Bodies(**TINY, size=36)
    targets = batch()
    wrong = {**targets, "pose": targets["pose"] + 1}
    apart = suite.complete(wrong)["vertices"] - suite.complete(targets)["vertices"]
    assert apart.norm(dim=-1).mean() > 0.1


@pytest.mark.parametrize("variant", ["vertices@0.4", "pose+vertices@0.2"])
def test_surfaces_cannot_be_corrupted_by_themselves(variant: str) -> None:
    with pytest.raises(UserError, match=r"task 'vertices' follow from others.*'shape'"):
        Variant.parse(variant, Bodies().tasks())


def test_pose_and_shape_get_the_noise_of_the_paper_on_the_same_people() -> None:
    (spec,) = plan(
        "bodies",
        strategies=["ilt"],
        variants=["shape+pose@0.5"],
        seeds=1,
        overrides={**TINY, "size": 36},
    )
    assert spec.variant == "pose+shape@0.5"
    record = trained(spec)
    assert record.info["status"] == "done", record.info["error"]
    corrupted = record.labels["corrupted"]
    assert (corrupted[:, 1] == corrupted[:, 2]).all()
    assert corrupted[:, [1, 2]].sum(0).tolist() == [16, 16]
    assert not corrupted[:, [0, 3]].any()
    for task in ("pose", "shape"):
        noise = record.labels[f"given/{task}"] - record.labels[f"clean/{task}"]
        assert np.abs(noise).max() <= 2
        assert np.abs(noise).max() > 1.9
        assert abs(noise.mean()) < 0.3
    names = {(metric["task"], metric["metric"]) for metric in record.info["metrics"]}
    assert names == {
        ("segmentation", "pixel_accuracy"),
        ("vertices", "surface_error"),
        ("vertices", "mpjpe"),
        ("pose", "detection_accuracy"),
        ("pose+shape", "detection_accuracy"),
        ("shape", "detection_accuracy"),
    }
    assert record.predictions["prediction/mesh"].shape == (6, 3, 128, 128)


# --- augmentation -------------------------------------------------------------------------------


def test_the_mirrored_pose_makes_the_mirrored_surface() -> None:
    targets = batch()
    body = surface(targets["shape"], targets["pose"])
    mirrored = surface(targets["shape"], mirror_pose(targets["pose"]))
    mirrored = mirrored * torch.tensor([-1.0, 1.0, 1.0])
    # The body is symmetric, but its vertices are numbered otherwise on the other side.
    assert torch.cdist(body, mirrored).amin(-1).max() < 1e-3
    torch.testing.assert_close(mirror_pose(mirror_pose(targets["pose"])), targets["pose"])


def test_pictures_parts_and_poses_are_mirrored_together() -> None:
    targets = batch()
    inputs = torch.zeros(8, 3, 32, 32)
    inputs[..., :16] = 1  # the left half is bright
    changed, given = Bodies().augment(inputs, targets, torch.Generator().manual_seed(0))
    mirrored = changed[:, 0, 0, 0] < 0.5
    assert 0 < mirrored.sum() < 8
    left, right = (CLASSES.index(f"{side} hand") for side in ("left", "right"))
    assert {f"{side} hand" for side in ("left", "right")} <= set(PARTS)
    for i, turned in enumerate(mirrored):
        before, after = targets["segmentation"][i], given["segmentation"][i]
        if turned:
            assert torch.equal(after == right, (before == left).flip(-1))
            torch.testing.assert_close(given["pose"][i], mirror_pose(targets["pose"][i, None])[0])
        else:
            assert torch.equal(after, before)
            assert torch.equal(given["pose"][i], targets["pose"][i])
        assert torch.equal(given["shape"][i], targets["shape"][i])


# --- suites -------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [16, 48 + 4, 0])
def test_a_size_that_the_network_cannot_halve_is_refused(size: int) -> None:
    with pytest.raises(UserError, match="size must be a multiple of 12 from 36 on"):
        build_suite("bodies", {"size": size})


def test_the_splits_share_nobody() -> None:
    data = Bodies(**TINY, size=36).data()
    shapes = [split.targets["shape"] for split in (data.train, data.validation, data.test)]
    assert [len(shape) for shape in shapes] == [32, 8, 8]
    assert len(torch.cat(shapes).unique(dim=0)) == 48


def test_surreal_without_its_data_or_without_smpl_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="mtlbench prepare surreal"):
        plan("surreal", overrides={"prepared": str(tmp_path / "nothing")})
    suite = build_suite("surreal", {"smpl": str(tmp_path / "smpl.pkl")})
    with pytest.raises(UserError, match="no SMPL model file at"):
        suite.body()


def test_surreal_runs_the_paper_s_recipe() -> None:
    suite = build_suite("surreal", {})
    recipe = {
        name: dict(suite.strategy_parameters(Variant.parse(name, suite.tasks())))
        for name in suite.default_variants
    }
    assert {name: values["ilt.lr"] for name, values in recipe.items()} == {
        "clean": 2.0,
        "segmentation@0.4": 2.0,
        "pose+shape@0.4": 2.0,
    }
    assert {name: values["dwa.temperature"] for name, values in recipe.items()} == {
        "clean": 0.5,
        "segmentation@0.4": 1.8,
        "pose+shape@0.4": 0.5,
    }
    with torch.device("meta"):
        network = suite.__class__.model(_with_own_body(suite))
    assert round(sum(p.numel() for p in network.parameters()) / 1e6) == 40


def _with_own_body(suite: object) -> object:
    class Stub(type(suite)):  # type: ignore[misc]
        def body(self):
            return make_body()

    return Stub(**{f.name: getattr(suite, f.name) for f in dataclasses.fields(suite)})
