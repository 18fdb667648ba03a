"""What the network of a fold is trained on, and which of its epochs counts."""

import dataclasses
import io
from typing import Any

import numpy as np
import pytest
import torch
from conftest import tiny_spec

from mtlbench.data.orders import even_order
from mtlbench.data.splits import Data, Split
from mtlbench.randomness import named_generator
from mtlbench.spec import RunSpec
from mtlbench.store.folds import NO_LABEL
from mtlbench.store.schema import DONE
from mtlbench.suites.base import register_suite
from mtlbench.suites.digits import Digits
from mtlbench.training.folds import FoldRun, map_quality
from mtlbench.training.job import Ended
from mtlbench.training.loop import train


def fold_of(spec: RunSpec) -> FoldRun:
    run = FoldRun(spec, fold=1, folds=4)
    run.start()
    return run


def trained_fold(spec: RunSpec) -> dict[str, np.ndarray]:
    *_, ended = train(lambda: FoldRun(spec, fold=1, folds=4))
    assert isinstance(ended, Ended)
    assert ended.status == DONE, ended.error
    with np.load(io.BytesIO(ended.result)) as arrays:
        return {name: arrays[name] for name in arrays if name != "about"}


def test_a_fold_of_a_suite_with_another_rule_of_the_epoch_keeps_the_last_one() -> None:
    last = trained_fold(tiny_spec())
    for rule in ("best", "mean:2"):
        kept = trained_fold(tiny_spec(epoch_rule=rule))
        assert kept.keys() == last.keys()
        for name, values in last.items():
            np.testing.assert_array_equal(kept[name], values, name)


def test_a_fold_is_trained_on_all_others_once_an_epoch() -> None:
    run = fold_of(tiny_spec())
    order = run.order(named_generator("here"))
    assert sorted([*order.tolist(), *run.held_out.tolist()]) == list(range(256))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Apart(Digits):
    """Digits whose tasks have data of their own: 5 in 8 of them `left`, 2 `right`, 1 `offset`."""

    def data(self) -> Data:
        def apart(split: Split) -> Split:
            owner = torch.tensor([0, 0, 0, 0, 0, 1, 1, 2]).repeat(len(split) // 8)
            left = torch.as_tensor(split.targets["left"][torch.arange(len(split))])
            return dataclasses.replace(
                split,
                targets={**split.targets, "left": left.to(torch.uint8)},
                present=torch.eye(3, dtype=torch.bool)[owner],
            )

        data = super().data()
        return Data(*map(apart, (data.train, data.validation, data.test)))

    def order(self, train: Split, generator: torch.Generator) -> Any:
        assert train.present is not None
        return even_order(train.present, generator)


def test_a_fold_visits_the_instances_in_the_suites_own_order() -> None:
    register_suite("apart")(Apart)
    run = fold_of(dataclasses.replace(tiny_spec(), suite="apart"))
    order = run.order(named_generator("here"))
    assert not set(order.tolist()) & set(run.held_out.tolist())
    assert run.train_split.present is not None
    turns = run.train_split.present[order].int().argmax(1).view(-1, 3)
    assert (turns == torch.arange(3)).all()


def test_a_fold_says_which_labels_are_absent() -> None:
    register_suite("apart")(Apart)
    spec = dataclasses.replace(tiny_spec(), suite="apart")
    kept = trained_fold(spec)
    has_left = kept["rows"] % 8 < 5
    assert np.array_equal(kept["label/left"] == NO_LABEL, ~has_left)
    assert set(kept["label/left"][has_left]) <= set(range(10))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Once(Digits):
    """Digits of which one alone, in fold 1 of 4, has a label of `left`."""

    def data(self) -> Data:
        data = super().data()
        order = torch.randperm(len(data.train), generator=named_generator("folds", "once", 4))
        present = torch.ones(len(data.train), 3, dtype=torch.bool)
        present[:, 0] = torch.arange(len(data.train)) == order[1]
        return dataclasses.replace(data, train=dataclasses.replace(data.train, present=present))


def test_a_network_that_saw_no_label_of_a_task_gives_no_scores_of_it() -> None:
    register_suite("once")(Once)
    kept = trained_fold(dataclasses.replace(tiny_spec(), suite="once"))
    assert np.isnan(kept["loss"][:, 0]).all()
    assert (kept["label/left"] == NO_LABEL).all()
    assert np.isfinite(kept["loss"][:, 1:]).all()


def test_a_fold_keeps_the_losses_of_its_network_where_it_has_not_been_trained() -> None:
    run = fold_of(tiny_spec(epochs=1))
    run.train_epoch()
    result = run.finish()
    assert result is not None
    with np.load(io.BytesIO(result)) as arrays:
        kept = {name: arrays[name] for name in arrays}
    split, suite = run.train_split, run.suite
    rows = torch.from_numpy(kept["rows"])
    run.model.eval()
    with torch.no_grad():
        outputs = suite.call(run.model, suite.prepare(split.inputs[rows]))
    left = torch.nn.functional.cross_entropy(
        outputs["left"], split.targets["left"][rows].long(), reduction="none"
    )
    offset = outputs["offset"] - split.targets["offset"][rows]
    names = [task.name for task in run.tasks]
    np.testing.assert_allclose(kept["loss"][:, names.index("left")], left, rtol=1e-4, atol=1e-6)
    found = kept["loss"][:, names.index("offset")]
    assert np.corrcoef(found, offset.square())[0, 1] > 0.99
    np.testing.assert_allclose(
        kept["value"][:, names.index("offset")], outputs["offset"], rtol=1e-4, atol=1e-6
    )
    assert np.isnan(kept["value"][:, names.index("left")]).all()
    assert kept["validation_loss"].shape == (len(run.data.validation), len(names))
    assert np.isfinite(kept["validation_loss"]).all()


@pytest.mark.parametrize("hidden", [0, 3], ids=["all labelled", "some pixels without a label"])
def test_the_quality_of_a_map_is_that_of_cleanlab(hidden: int) -> None:
    rank = pytest.importorskip("cleanlab.segmentation.rank")
    generator = named_generator("maps")
    probability = torch.rand(5, 3, 4, 4, generator=generator, dtype=torch.float64).softmax(1)
    labels = torch.randint(3, (5, 4, 4), generator=generator)
    labelled = torch.ones_like(labels, dtype=torch.bool)
    labelled.view(5, -1)[:, :hidden] = False
    sure = torch.where(
        labelled.unsqueeze(1),
        probability,
        torch.nn.functional.one_hot(labels, 3).permute(0, 3, 1, 2),
    )
    expected, _ = rank.get_label_quality_scores(labels.numpy(), sure.numpy(), verbose=False)
    quality = map_quality(torch.where(labelled, labels, -1), probability, labelled)
    np.testing.assert_allclose(quality, expected, rtol=1e-12)
