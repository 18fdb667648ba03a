"""NYUv2 from small trees in its published format to trained runs."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import trained
from indoor_trees import write_scene, write_tree
from torch import Tensor, nn

from mtlbench.data.prepare import prepare
from mtlbench.data.rows import to_device
from mtlbench.data.splits import Split, Targets
from mtlbench.data.variants import Variant
from mtlbench.errors import UserError
from mtlbench.study.examples import Examples
from mtlbench.study.plan import plan
from mtlbench.suites.build import build_suite
from mtlbench.suites.nyuv2 import NO_DIRECTION, SCALES, NYUv2, _change
from mtlbench.tasks.normals import has_direction
from mtlbench.training.evaluation import evaluate
from mtlbench.training.labels import training_labels

CPU = torch.device("cpu")
TINY = {"epochs": "2", "epoch_rule": "mean:2", "channels": "2"}
LABELS = ("segmentation", "depth", "normal")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("nyuv2")
    prepare("nyuv2", write_tree(root / "raw"), root / "out", workers=1)
    return str(root / "out")


def in_memory(split: Split) -> tuple[Tensor, Targets]:
    """Inputs as the network gets them, and labels."""
    assert not isinstance(split.inputs, dict)
    targets = {name: to_device(labels, CPU) for name, labels in split.targets.items()}
    inputs = NYUv2().prepare(to_device(split.inputs, CPU))  # type: ignore[arg-type]
    assert isinstance(inputs, Tensor)
    return inputs, targets


def is_unit_or_zero(normals: Tensor) -> bool:
    length = normals.norm(dim=1)
    return bool(((length - 1).abs() < 1e-5).logical_or(length == 0).all())


# --- runs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strategy", "variant"),
    [("equal", "clean"), ("ilt", "segmentation@0.5,depth@0.5"), ("ilt", "normal@0.5")],
)
def test_a_prepared_tree_gives_a_trained_run(prepared: str, strategy: str, variant: str) -> None:
    (spec,) = plan(
        "nyuv2",
        strategies=[strategy],
        variants=[variant],
        seeds=1,
        overrides={**TINY, "prepared": prepared},
    )
    record = trained(spec)
    assert record.info["status"] == "done", record.info["error"]
    metrics = {f"{m['task']}/{m['metric']}": m["value"] for m in record.info["metrics"]}
    assert {name for name in metrics if "detection" not in name} == {
        "segmentation/miou",
        "segmentation/pixel_accuracy",
        "depth/abs_err",
        "depth/rel_err",
        "normal/mean_angle",
        "normal/median_angle",
        "normal/within_11.25",
        "normal/within_22.5",
        "normal/within_30",
    }
    assert all(math.isfinite(value) for value in metrics.values())
    for kind in ("truth", "prediction"):
        assert record.predictions[f"{kind}/depth"].shape == (3, 32, 48)
        assert record.predictions[f"{kind}/normal"].shape == (3, 3, 32, 48)
        assert record.predictions[f"{kind}/normal"].dtype == np.uint8


def test_a_tenth_of_the_training_scenes_is_held_out_and_tests_are_on_val(prepared: str) -> None:
    data = build_suite("nyuv2", {"prepared": prepared}).data()
    assert [len(split) for split in (data.train, data.validation, data.test)] == [9, 1, 3]
    (train, _), (held_out, _), (test, _) = map(in_memory, (data.train, data.validation, data.test))
    scenes = [image.numpy().tobytes() for images in (train, held_out, test) for image in images]
    assert len(set(scenes)) == 13
    again = build_suite("nyuv2", {"prepared": prepared}).data()
    assert torch.equal(in_memory(again.validation)[0], held_out)


def test_the_recipe_is_the_published_one() -> None:
    suite = NYUv2()
    assert (suite.epochs, suite.batch_size, suite.lr) == (200, 2, 1e-4)
    assert (suite.channels, suite.epoch_rule) == (64, "mean:10")
    factors = [suite.lr_factor(epoch / 200) for epoch in (0, 99.99, 100, 199.99)]
    assert factors == [1, 1, 0.5, 0.5]


def test_the_mean_over_ten_epochs_asks_for_ten_and_for_one_network(prepared: str) -> None:
    with pytest.raises(UserError, match="epoch_rule is 'mean:10', but there are 5 epochs"):
        build_suite("nyuv2", {"epochs": 5})
    assert build_suite("nyuv2", {"epochs": 5, "epoch_rule": "last"}).epochs == 5
    with pytest.raises(UserError, match="'evolution' takes no epoch_rule 'mean:10'"):
        plan("nyuv2", strategies=["evolution"], overrides={"prepared": prepared})


def test_data_that_is_missing_or_too_small_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="mtlbench prepare nyuv2 --raw DIR"):
        plan("nyuv2", overrides={"prepared": str(tmp_path)})
    with pytest.raises(UserError, match="channels must be at least 1, but is 0"):
        build_suite("nyuv2", {"channels": 0})
    sizes = {"label": (16, 48), "image": (16, 48, 3), "depth": (16, 48, 1), "normal": (16, 48, 3)}
    for split in ("train", "val"):
        write_scene(tmp_path / "raw", split, 0, **{k: np.zeros(v) for k, v in sizes.items()})
    prepare("nyuv2", tmp_path / "raw", tmp_path / "out", workers=1)
    with pytest.raises(UserError, match="are 16 × 48, but the network needs at least 32 × 32"):
        plan("nyuv2", overrides={"prepared": str(tmp_path / "out")})


# --- labels that are not there --------------------------------------------------------------------


class Oracle(nn.Module):
    """Says what is true, where anything is known, of inputs in an order that it knows."""

    def __init__(self, targets: Targets) -> None:
        super().__init__()
        classes = targets["segmentation"].long()
        known = nn.functional.one_hot(classes.clamp(min=0), 13).movedim(-1, 1).float()
        self.outputs = {
            "segmentation": known,
            "depth": torch.where(targets["depth"] == 0, 50.0, targets["depth"]),
            "normal": torch.where(
                has_direction(targets["normal"])[:, None], targets["normal"], 0.577
            ),
        }

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return self.outputs


def test_what_is_predicted_where_no_label_is_counts_in_no_metric(prepared: str) -> None:
    suite = build_suite("nyuv2", {"prepared": prepared})
    test = suite.data().test
    _, targets = in_memory(test)
    values = evaluate(suite, Oracle(targets), test, CPU)
    assert values == pytest.approx(
        {
            "segmentation/miou": 100,
            "segmentation/pixel_accuracy": 100,
            "depth/abs_err": 0,
            "depth/rel_err": 0,
            "normal/mean_angle": 0,
            "normal/median_angle": 0.005,  # the middle of the first bin
            "normal/within_11.25": 100,
            "normal/within_22.5": 100,
            "normal/within_30": 100,
        },
        abs=1e-4,
    )


def test_pixels_without_a_label_have_no_gradient_and_the_others_have_one(prepared: str) -> None:
    suite = build_suite("nyuv2", {"prepared": prepared})
    _, targets = in_memory(suite.data().train)
    unlabelled = {
        "segmentation": targets["segmentation"] == -1,
        "depth": targets["depth"] == 0,
        "normal": ~has_direction(targets["normal"]),
    }
    torch.manual_seed(0)
    for task in suite.tasks():
        empty = unlabelled[task.name]
        assert empty.any()
        shape = {"segmentation": (13,), "depth": (), "normal": (3,)}[task.name]
        output = torch.randn(len(empty), *shape, *empty.shape[1:], requires_grad=True)
        task.losses(output, targets[task.name]).sum().backward()
        assert output.grad is not None
        size = output.grad.abs() if not shape else output.grad.abs().sum(1)
        assert (size[empty] == 0).all()
        assert (size[~empty] > 0).all()


def test_shuffled_normals_are_those_of_other_scenes(prepared: str) -> None:
    suite = build_suite("nyuv2", {"prepared": prepared})
    data = suite.data()
    variant = Variant.parse("normal@0.5", suite.tasks())
    given, mask = training_labels(suite, "nyuv2", variant, data, CPU)
    before, after = in_memory(data.train)[1]["normal"], in_memory(given)[1]["normal"]
    changed = torch.tensor([not torch.equal(a, b) for a, b in zip(before, after, strict=True)])
    assert torch.equal(changed, mask[:, 2])
    assert changed.sum() == 4
    assert is_unit_or_zero(after)
    assert all(any(torch.equal(label, other) for other in before) for label in after)


# --- augmentation ---------------------------------------------------------------------------------


def scene_of_columns(height: int = 48, width: int = 64) -> tuple[Tensor, Targets]:
    """A scene whose colours, classes and depth all say the column, and whose normals point right
    in the upper half."""
    column = torch.arange(width).expand(height, width).float()
    normal = torch.zeros(3, height, width)
    normal[0, : height // 2] = 0.6
    normal[2, : height // 2] = 0.8
    targets = {"segmentation": column.to(torch.int8), "depth": column + 1, "normal": normal}
    return column.expand(3, height, width), targets


def test_a_scene_that_is_not_enlarged_is_left_as_it_is() -> None:
    image, labels = scene_of_columns()
    same, kept = _change(image, labels, 0.0, 0.9, 0.9, 0.5)
    assert torch.equal(same, image)
    assert all(torch.equal(kept[name], labels[name]) for name in LABELS)


@pytest.mark.parametrize(("place", "factor"), [(0.4, 1.2), (0.99, 1.5)])
def test_an_enlarged_scene_is_nearer_and_its_labels_stay_with_what_is_seen(
    place: float, factor: float
) -> None:
    image, labels = scene_of_columns()
    seen, kept = _change(image, labels, place, 0.0, 0.999, 0.5)
    assert seen.shape == image.shape
    wide = int(64 / factor)
    left = 64 - wide  # the last place there is
    assert (seen[..., 0] - left).abs().max() < 1e-4
    assert (seen[..., -1] - 63).abs().max() < 1e-4
    assert (seen[0] - kept["segmentation"]).abs().max() <= 0.5 + 1e-4
    torch.testing.assert_close(kept["depth"] * factor, kept["segmentation"] + 1.0)
    assert is_unit_or_zero(kept["normal"][None])
    assert kept["segmentation"].dtype == torch.int8


def test_a_mirrored_scene_has_its_normals_mirrored() -> None:
    image, labels = scene_of_columns()
    seen, kept = _change(image, labels, 0.0, 0.0, 0.0, 0.49)
    assert torch.equal(seen, image.flip(-1))
    assert torch.equal(kept["segmentation"], labels["segmentation"].flip(-1))
    assert torch.equal(kept["depth"], labels["depth"].flip(-1))
    assert kept["normal"][:, 0, 0].tolist() == pytest.approx([-0.6, 0, 0.8])
    assert not has_direction(kept["normal"][None])[0, 24:].any()


def test_twice_mirrored_is_as_before(prepared: str) -> None:
    inputs, targets = in_memory(build_suite("nyuv2", {"prepared": prepared}).data().test)
    image, labels = inputs[0], {name: labels[0] for name, labels in targets.items()}
    again, kept = _change(*_change(image, labels, 0.0, 0.0, 0.0, 0.0), 0.0, 0.0, 0.0, 0.0)
    assert torch.equal(again, image)
    assert all(torch.equal(kept[name], labels[name]) for name in LABELS)


def test_all_of_the_augmentation_is_drawn_from_the_generator_and_always_as_much(
    prepared: str,
) -> None:
    suite = build_suite("nyuv2", {"prepared": prepared})
    inputs, targets = in_memory(suite.data().train)

    def augmented(seed: int) -> tuple[Tensor, Targets, Any]:
        generator = torch.Generator().manual_seed(seed)
        images, labels = suite.augment(inputs, targets, generator)
        return images, labels, generator.get_state()

    images, labels, state = augmented(1)
    again, same, _ = augmented(1)
    assert torch.equal(images, again)
    assert all(torch.equal(labels[name], same[name]) for name in LABELS)
    expected = torch.Generator().manual_seed(1)
    torch.rand(len(inputs), 4, generator=expected)
    assert torch.equal(state, expected.get_state())
    assert {k: (v.shape, v.dtype) for k, v in labels.items()} == {
        k: (v.shape, v.dtype) for k, v in targets.items()
    }
    assert is_unit_or_zero(labels["normal"])
    # Depth is drawn between 0.7 and 10 m, so that the farthest pixel tells the scale.
    nearer = targets["depth"].amax((1, 2)) / labels["depth"].amax((1, 2))
    assert len({min(SCALES, key=lambda scale: abs(scale - n)) for n in nearer.tolist()}) > 1


# --- pictures -------------------------------------------------------------------------------------


def test_normals_are_shown_as_colours_and_grey_where_there_are_none() -> None:
    normals = torch.tensor([[1.0, 0, 0], [0, -1, 0], [0, 0, 0.2], [0, 0, 0]]).T.view(1, 3, 1, 4)
    picture = NYUv2().views(torch.zeros(1, 3, 1, 4), {"normal": normals})["normal"]
    assert picture.dtype == np.uint8
    assert picture[0, :, 0].T.tolist() == [
        [255, 128, 128],
        [128, 0, 128],
        [128, 128, 153],
        [NO_DIRECTION] * 3,
    ]


def test_suspects_of_normals_are_shown_by_these_pictures(prepared: str) -> None:
    (spec,) = plan(
        "nyuv2",
        strategies=["equal"],
        variants=["clean"],
        seeds=1,
        overrides={**TINY, "prepared": prepared},
    )
    suite = build_suite("nyuv2", {"prepared": prepared})
    examples = Examples.load(suite, spec)
    suspects = examples.take("normal", np.arange(2), None)
    assert suspects.views["normal"].shape == (2, 3, 32, 48)
