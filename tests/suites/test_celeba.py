"""The suite of CelebA: its tasks, its network, and small trees all the way to a trained run."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import here, run_mtlbench, trained
from faces import write_faces
from torch import Tensor, nn

from mtlbench import build_strategy
from mtlbench.data.celeba import ATTRIBUTES
from mtlbench.data.prepare import prepare
from mtlbench.data.rows import to_device
from mtlbench.errors import UserError
from mtlbench.models.faces import FaceNet
from mtlbench.store.runs import RunRecord
from mtlbench.study.plan import plan
from mtlbench.suites.build import build_suite


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("celeba")
    write_faces(root / "raw", train=24, val=8, test=6)
    prepare("celeba", root / "raw", root / "out", workers=1)
    return root / "out"


def run_of(prepared: Path, strategy: str, variant: str = "clean", **overrides: object) -> RunRecord:
    options = {"epochs": 2, "width": 2, "batch_size": 7, "prepared": prepared, **overrides}
    texts = {name: str(value) for name, value in options.items()}
    (spec,) = plan("celeba", strategies=[strategy], variants=[variant], seeds=1, overrides=texts)
    record = trained(spec)
    assert record.info["status"] == "done", record.info["error"]
    return record


def values(record: RunRecord, metric: str) -> dict[str, float]:
    return {m["task"]: m["value"] for m in record.info["metrics"] if m["metric"] == metric}


# --- data and tasks -------------------------------------------------------------------------------


def test_each_attribute_is_a_task_with_its_own_column(prepared: Path) -> None:
    suite = build_suite("celeba", {"prepared": str(prepared)})
    assert [task.name for task in suite.tasks()] == list(ATTRIBUTES)
    data = suite.data()
    assert [len(split) for split in (data.train, data.validation, data.test)] == [24, 8, 6]
    assert data.validation.names is not None
    assert data.validation.names[0] == "000025.jpg"
    # The tree's first attribute is how bright a face is.
    images = to_device(data.train.inputs, "cpu").float()  # type: ignore[arg-type]
    bright = images.mean((1, 2, 3)) > 100
    assert torch.equal(data.train.targets[ATTRIBUTES[0]][torch.arange(24)].bool(), bright)
    # Each second face has what the one before it lacks.
    for name in ATTRIBUTES:
        labels = data.train.targets[name][torch.arange(24)]
        assert torch.equal(labels[0::2] + labels[1::2], torch.ones(12, dtype=labels.dtype)), name


def test_the_recipe_is_the_published_one() -> None:
    suite = build_suite("celeba", {})
    assert (suite.epochs, suite.batch_size, suite.lr) == (15, 256, 3e-4)
    assert (suite.weight_decay, suite.epoch_rule) == (0, "best")
    assert suite.lr_factor(0) == suite.lr_factor(0.99) == 1
    assert [metric.name for metric in suite.tasks()[0].metrics] == ["f1", "accuracy"]


def test_metrics_are_those_counted_by_hand() -> None:
    f1, accuracy = build_suite("celeba", {}).tasks()[0].metrics
    prediction, label = (
        torch.tensor([1, 1, 1, 0, 0, 0, 0, 0]),
        torch.tensor([1, 1, 0, 1, 1, 0, 0, 0]),
    )
    meters = [metric.make() for metric in (f1, accuracy)]
    for meter in meters:  # in two batches, of which one has labels of 1 and finds none of them
        meter.update(prediction[:3], label[:3])
        meter.update(prediction[3:], label[3:])
    # 2 found, 1 too many, 2 missed: 2 · 2 / (2 · 2 + 1 + 2); 5 of 8 right.
    assert [100 * float(meter.compute()) for meter in meters] == pytest.approx([400 / 7, 62.5])


def test_the_loss_is_the_negative_logarithm_of_the_chance_given_to_the_label() -> None:
    task = build_suite("celeba", {}).tasks()[0]
    logits, labels = torch.tensor([0.0, 2.0, 2.0]), torch.tensor([1, 1, 0], dtype=torch.uint8)
    chance = 1 / (1 + math.exp(-2))
    expected = [math.log(2), -math.log(chance), -math.log(1 - chance)]
    torch.testing.assert_close(task.losses(logits, labels), torch.tensor(expected))


# --- the network ----------------------------------------------------------------------------------


def test_the_network_has_the_published_layers() -> None:
    with torch.device("meta"):
        model = FaceNet(ATTRIBUTES)
    convolutions = [m for m in model.trunk if isinstance(m, nn.Conv2d)]
    assert [(m.in_channels, m.out_channels) for m in convolutions] == [
        (3, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 512), (512, 512),
    ]  # fmt: skip
    connected = [m for m in model.trunk if isinstance(m, nn.Linear)]
    assert [(m.in_features, m.out_features) for m in connected] == [(512, 512)] * 2
    weights = 9 * sum(m.in_channels * m.out_channels for m in convolutions) + 2 * 512**2
    norms = 2 * (64 + 2 * 128 + 2 * 256 + 2 * 512 + 2 * 512)
    heads = 40 * (512 + 1)
    assert sum(p.numel() for p in model.parameters()) == weights + norms + heads


def test_maps_are_halved_between_the_four_stages() -> None:
    model, sides = FaceNet(["a"], width=1), []
    for layer in model.trunk:
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(lambda *args: sides.append(args[-1].shape[-1]))
    assert model(torch.zeros(2, 3, 64, 64))["a"].shape == (2,)
    assert sides == [64, 32, 32, 16, 16, 8, 8]


def test_a_batch_of_one_can_be_trained_on() -> None:
    outputs = FaceNet(["a", "b"], width=1)(torch.randn(1, 3, 64, 64))
    assert all(output.isfinite().all() for output in outputs.values())


class Stacked(FaceNet):
    """The same with one product for all heads."""

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        heads = [head for head in self.heads.values() if isinstance(head, nn.Linear)]
        weight = torch.cat([head.weight for head in heads])
        bias = torch.cat([head.bias for head in heads])
        outputs = nn.functional.linear(self.trunk(images), weight, bias)
        return dict(zip(self.heads, outputs.unbind(1), strict=True))


def step(model: FaceNet) -> dict[str, Tensor]:
    """Gradients of one step of PCGrad on random images and labels, and for each head the gradient
    of its own loss alone."""
    chance = torch.Generator().manual_seed(0)
    images = torch.randn(8, 3, 64, 64, generator=chance)
    labels = torch.randint(0, 2, (8, 40), generator=chance)
    weighting = build_strategy(
        "pcgrad", tasks=dict.fromkeys(ATTRIBUTES, "classification"), model=model
    )
    outputs = model(images)
    losses = {
        name: nn.functional.softplus(outputs[name] * (1 - 2 * labels[:, k]))
        for k, name in enumerate(ATTRIBUTES)
    }
    alone = {
        name: torch.autograd.grad(loss.mean(), model.heads[name].weight, retain_graph=True)[0]
        for name, loss in losses.items()
    }
    weighting.backward(losses, torch.arange(8))
    return alone


def test_gradient_weightings_find_the_trunk_by_themselves() -> None:
    torch.manual_seed(0)
    model = FaceNet(ATTRIBUTES, width=1)
    alone = step(model)
    for name in ATTRIBUTES:
        torch.testing.assert_close(model.heads[name].weight.grad, alone[name])
    assert all(parameter.grad is not None for parameter in model.trunk.parameters())


def test_one_product_for_all_heads_would_hide_the_trunk_from_them() -> None:
    torch.manual_seed(0)
    with pytest.raises(ValueError, match="cannot tell heads from shared layers"):
        step(Stacked(ATTRIBUTES, width=1))


# --- from files to a run --------------------------------------------------------------------------


def test_equal_weights_learn_what_can_be_seen(prepared: Path) -> None:
    record = run_of(prepared, "equal", epochs=30, lr=3e-3)
    accuracy = values(record, "accuracy")
    assert len(accuracy) == 40
    assert accuracy[ATTRIBUTES[0]] == 100  # whether a face is bright
    assert np.isfinite(list(values(record, "f1").values())).all()


def test_instance_parameters_are_learned_for_every_attribute(prepared: Path) -> None:
    record = run_of(prepared, "ilt", "Smiling@0.4")
    assert np.isfinite(list(values(record, "f1").values())).all()
    assert set(values(record, "detection_accuracy")) == {"Smiling"}
    assert record.instance_parameters["log_variance"].shape == (2, 24, 40)
    corrupted = record.instance_parameters["corrupted"]
    assert corrupted.sum(0).tolist() == [
        round(0.4 * 24) if name == "Smiling" else 0 for name in ATTRIBUTES
    ]
    assert (record.labels["clean/Smiling"] != record.labels["given/Smiling"]).all()


def test_results_are_those_of_the_epoch_that_is_best_on_validation_images(prepared: Path) -> None:
    # At a learning rate at which the last epoch is hardly ever the best.
    record = run_of(prepared, "equal", epochs=6, lr=0.1)
    scores = []
    for epoch in range(6):
        logs = [
            math.log(max(1e-6, record.history[f"validation/{name}/{metric}"][epoch]))
            for name in ATTRIBUTES
            for metric in ("f1", "accuracy")
        ]
        scores.append(math.fsum(logs))
    best = int(np.argmax(scores))
    again = run_of(prepared, "equal", epochs=best + 1, lr=0.1, epoch_rule="last")
    assert values(again, "f1") == values(record, "f1")


def test_a_directory_that_is_not_prepared_is_named_with_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["run", "celeba", "--set", f"prepared={tmp_path}", "--results", f"{tmp_path}/r"]
    ended = here(command, capsys)
    assert (ended.status, ended.out) == (2, "")
    assert ended.err.count("\n") == 1
    assert "mtlbench prepare celeba" in ended.err
    assert not (tmp_path / "r").exists()


def test_a_width_of_nothing_is_refused() -> None:
    with pytest.raises(UserError, match="width must be at least 1"):
        build_suite("celeba", {"width": 0})


def test_the_command_prepares_and_says_what_there_is(tmp_path: Path) -> None:
    write_faces(tmp_path / "raw", train=2, val=2, test=2)
    (tmp_path / "raw" / "img_align_celeba" / "000002.jpg").unlink()
    ended = run_mtlbench(
        ["prepare", "celeba", "--raw", f"{tmp_path}/raw", "--out", f"{tmp_path}/out"]
    )
    assert ended.status == 0, ended.err
    assert "1 train, 2 val, 2 test" in ended.out
    assert "1 × missing file, such as train/000002.jpg" in ended.out
