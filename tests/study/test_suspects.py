"""Which labels are wrong: scores, the share that they suggest, tables and contact sheets."""

import dataclasses
import math
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import TINY, TINY_OPTIONS, here, tiny_spec, trained, training
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import mtlbench
from mtlbench.analysis.label_errors.comparison import compare_detectors, summarise
from mtlbench.analysis.label_errors.figures import levels_figure
from mtlbench.analysis.label_errors.folds import fold_scores
from mtlbench.analysis.label_errors.found import (
    Findings,
    Found,
    Take,
    list_suspects,
    render_found,
)
from mtlbench.analysis.label_errors.mixture import estimate_share
from mtlbench.analysis.label_errors.scores import (
    ILT_LOSS,
    LOSS,
    MARGIN,
    SIGMA,
    Scores,
    detector_scores,
    order,
)
from mtlbench.analysis.label_errors.sheet import Suspects, sheet_figure
from mtlbench.plugins import PluginFile
from mtlbench.spec import RunSpec
from mtlbench.store.runs import HISTORY_FILE, RunRecord, Store, read_run
from mtlbench.store.sealed import DamagedRunError
from mtlbench.study.plan import plan
from mtlbench.tasks.detection import average_precision, roc_auc
from mtlbench.tasks.task import Task, cross_entropy, squared_l2
from mtlbench.training.job import Place
from mtlbench.training.jobs import FOLDS, FoldJob, RunJob, cross_validations
from mtlbench.training.traces import Traces, margins

VARIANT = "left@0.4"

ONE_TASK = '''
from dataclasses import dataclass

import torch
from torch import nn

import mtlbench
from mtlbench.tasks.metrics import accuracy
from mtlbench.tasks.task import Task, cross_entropy


@mtlbench.register_suite("mine")
@dataclass(frozen=True, kw_only=True)
class Mine(mtlbench.Suite):
    """Points in a plane, no pictures, and labels that somebody wrote down."""

    epochs: int = 3
    batch_size: int = 16
    lr: float = 1e-2

    def tasks(self):
        return (Task("side", "classification", cross_entropy(), (accuracy(2),), ()),)

    def data(self):
        draw = torch.Generator().manual_seed(0)
        points = torch.randn(96, 2, generator=draw)
        split = mtlbench.Split(points, {"side": (points[:, 0] > 0).long()})
        return mtlbench.Data(split, split, split)

    def model(self):
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.trunk = nn.Linear(2, 8)
                self.head = nn.Linear(8, 2)

            def forward(self, inputs):
                return {"side": self.head(self.trunk(inputs).relu())}

        return Net()
'''


MANY_TASKS = '''
from dataclasses import dataclass

import torch
from torch import nn

import mtlbench
from mtlbench.tasks.metrics import absolute_error, accuracy
from mtlbench.tasks.task import Task, binary_cross_entropy, squared_l2

NUMBERS = ("a", "b", "c", "d")


@mtlbench.register_suite("many")
@dataclass(frozen=True, kw_only=True)
class Many(mtlbench.Suite):
    """Four numbers and an answer of each of 80 points; one number lost its minus sign."""

    epochs: int = 8
    batch_size: int = 16
    lr: float = 3e-2

    def tasks(self):
        options = {"unit": "K", "center": 100.0, "scale": 50.0}
        return (
            *(
                Task(name, "regression", squared_l2(), (absolute_error("K"),), (), **options)
                for name in NUMBERS
            ),
            Task(
                "side", "classification", binary_cross_entropy(), (accuracy(2),), ("shuffle",),
                classes=("no", "yes"), binary=True,
            ),
        )

    def data(self):
        draw = torch.Generator().manual_seed(0)
        points = torch.randn(80, 4, generator=draw)
        labels = {name: 100 + 50 * points[:, k] for k, name in enumerate(NUMBERS)}
        clean = mtlbench.Split(points, labels | {"side": (points[:, 0] > 0).long()})
        wrong = {name: values.clone() for name, values in labels.items()}
        wrong["b"][7] = -wrong["b"][7] - 400
        wrong["d"][20:] = torch.nan
        split = mtlbench.Split(
            points, wrong | {"side": clean.targets["side"]}, names=[f"point {i}" for i in range(80)]
        )
        return mtlbench.Data(split, clean, clean)

    def model(self):
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.trunk = nn.Linear(4, 16)
                self.heads = nn.ModuleDict({n: nn.Linear(16, 1) for n in (*NUMBERS, "side")})

            def forward(self, inputs):
                shared = self.trunk(inputs)
                return {name: head(shared)[:, 0] for name, head in self.heads.items()}

        return Net()
'''


def stored(spec: RunSpec, store: Store, **options: object) -> Path:
    return store.write(trained(spec, **options))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seeds of `equal` and of `ilt`, with traces, on corrupted labels."""
    store = Store(tmp_path_factory.mktemp("study") / "runs")
    for seed in (0, 1):
        stored(tiny_spec("equal", VARIANT, seed), store, keep_traces=True)
        stored(tiny_spec("ilt", VARIANT, seed), store, keep_traces=True)
    return store.root


# --- traces -------------------------------------------------------------------------------------


def toy_task(ignore: int | None = None) -> Task:
    return Task("kind", "classification", cross_entropy(), (), (), ignore=ignore)


def test_the_margin_is_the_given_logit_less_the_largest_other() -> None:
    logits = torch.tensor([[3.0, 1.0, 2.5], [0.0, -1.0, 4.0]])
    assert margins(toy_task(), logits, torch.tensor([0, 1])).tolist() == [0.5, -5.0]


def test_the_margin_of_a_map_is_the_mean_over_its_labelled_pixels() -> None:
    logits = torch.tensor([[[[2.0, 0.0, 9.0]], [[0.0, 3.0, 0.0]]]])  # [1, 2, 1, 3]
    labels = torch.tensor([[[0, 0, -1]]])
    assert margins(toy_task(-1), logits, labels).tolist() == [(2.0 - 3.0) / 2]
    assert margins(toy_task(-1), logits, torch.full((1, 1, 3), -1)).isnan().all()


def test_an_absent_label_leaves_no_trace_and_a_huge_loss_stays_finite() -> None:
    nan = float("nan")
    tasks = (toy_task(), Task("size", "regression", squared_l2(), (), ()))
    traces = Traces(tasks, 4, torch.device("cpu"))
    traces.add(
        torch.tensor([2, 0]),
        {"kind": torch.tensor([[1.0, 0.0], [0.0, 3.0]]), "size": torch.zeros(2, 1)},
        {"kind": torch.tensor([0, 0]), "size": torch.zeros(2)},
        {"kind": torch.tensor([0.25, 3.5]), "size": torch.tensor([1e9, 2.0])},
        torch.tensor([[True, True], [True, False]]),
    )
    traces.end_epoch(torch.tensor([[0.5, nan], [2e9, 0.0]]))
    arrays = traces.arrays()
    largest = float(np.finfo(np.float16).max)
    expected_loss = [[3.5, nan], [nan, nan], [0.25, largest], [nan, nan]]
    np.testing.assert_array_equal(arrays["loss"][0], expected_loss)
    np.testing.assert_array_equal(arrays["margin"][0][:, 0], [-3.0, nan, 1.0, nan])
    assert np.isnan(arrays["margin"][0][:, 1]).all()
    np.testing.assert_array_equal(arrays["prediction"][0][:, 0], [1, -1, 0, -1])
    np.testing.assert_array_equal(arrays["validation_loss"], [[[0.5, nan], [largest, 0.0]]])


def test_the_number_predicted_in_the_last_epoch_is_kept_in_the_unit_of_the_label() -> None:
    task = Task("size", "regression", squared_l2(), (), (), center=100.0, scale=50.0, unit="K")
    traces = Traces((task,), 3, torch.device("cpu"))
    for output in ([0.0, 1.0], [2.0, -1.0]):
        traces.add(
            torch.tensor([2, 0]),
            {"size": torch.tensor(output)},
            {"size": torch.tensor([90.0, 110.0])},
            {"size": torch.zeros(2)},
            torch.tensor([[True], [False]]),
        )
        traces.end_epoch(torch.zeros(2, 1))
    np.testing.assert_array_equal(traces.arrays()["value"], [[np.nan], [np.nan], [200.0]])


def test_keeping_traces_changes_no_bit_of_a_run(tmp_path: Path) -> None:
    def parameters(record: RunRecord) -> bytes:
        return record.instance_parameters["log_variance"].tobytes()

    spec = tiny_spec("ilt", VARIANT)
    plain, traced = trained(spec), trained(spec, keep_traces=True)
    assert traced.history == plain.history
    assert traced.info["metrics"] == plain.info["metrics"]
    assert parameters(traced) == parameters(plain)
    paths = [Store(tmp_path / name).write(r) for name, r in (("a", plain), ("b", traced))]
    assert (paths[0] / HISTORY_FILE).read_bytes() == (paths[1] / HISTORY_FILE).read_bytes()
    assert traced.traces["loss"].shape == (TINY["epochs"], TINY["train_size"], 3)
    assert not plain.traces


def test_the_mean_of_the_traced_losses_is_the_training_loss() -> None:
    record = trained(tiny_spec(), keep_traces=True)
    by_epoch = record.traces["loss"].astype(np.float64).mean(axis=1)
    for k, task in enumerate(("left", "right", "offset")):
        # Each loss is rounded to 11 bits.
        np.testing.assert_allclose(by_epoch[:, k], record.history[f"train_loss/{task}"], rtol=1e-3)


def test_traces_of_a_run_that_was_interrupted_are_the_same_bits(tmp_path: Path) -> None:
    spec = tiny_spec(epochs=3)
    whole = trained(spec, keep_traces=True)
    checkpoint = tmp_path / "checkpoint.safetensors"
    run = training(spec, checkpoint=checkpoint, keep_traces=True)
    assert next(run).epoch == 1
    run.close()
    resumed = trained(spec, checkpoint=checkpoint, keep_traces=True)
    assert resumed.traces.keys() == whole.traces.keys()
    for name, array in whole.traces.items():
        assert resumed.traces[name].tobytes() == array.tobytes()


def test_a_checkpoint_without_traces_is_not_continued_where_traces_are_asked_for(
    tmp_path: Path,
) -> None:
    spec = tiny_spec(epochs=2)
    checkpoint = tmp_path / "checkpoint.safetensors"
    run = training(spec, checkpoint=checkpoint)
    next(run)
    run.close()
    record = trained(spec, checkpoint=checkpoint, keep_traces=True)
    assert len(record.traces["loss"]) == 2


def test_a_finished_run_without_traces_is_missing_where_traces_are_asked_for(
    tmp_path: Path,
) -> None:
    specs = [tiny_spec("equal", VARIANT), tiny_spec("ilt", VARIANT)]
    store = Store(tmp_path)
    for spec in specs:
        stored(spec, store, keep_traces=spec.strategy == "equal")
    assert [RunJob(spec).found(store) is not None for spec in specs] == [True, True]
    assert [RunJob(spec, traces=True).found(store) is not None for spec in specs] == [True, False]
    with pytest.raises(DamagedRunError, match="kept no traces"):
        RunJob(specs[1], traces=True).read(store)


# --- scores -------------------------------------------------------------------------------------


def test_scores_of_a_run_are_the_sums_of_its_traces(study: Path) -> None:
    store = Store(study)
    spec = tiny_spec("equal", VARIANT)
    run = read_run(store.run_directory("digits", VARIANT, "equal", 0, spec.hash))
    frame = detector_scores(run)
    assert set(frame["detector"]) == {LOSS, MARGIN}
    assert not ((frame["task"] == "offset") & (frame["detector"] == MARGIN)).any()
    of_ilt = detector_scores(
        read_run(store.run_directory("digits", VARIANT, "ilt", 0, tiny_spec("ilt", VARIANT).hash))
    )
    assert set(of_ilt["detector"]) == {SIGMA, ILT_LOSS, MARGIN}
    left = frame[frame["task"] == "left"]
    traces = run.traces()
    for detector, sign, name in ((LOSS, 1, "loss"), (MARGIN, -1, "margin")):
        by_hand = [
            sign * sum(float(value) for value in traces[name][:, i, 0]) / TINY["epochs"]
            for i in range(5)
        ]
        scores = left[left["detector"] == detector]["score"].to_numpy()
        assert scores[:5] == pytest.approx(by_hand)
    assert left["corrupted"].sum() == 2 * round(0.4 * TINY["train_size"])  # of two detectors


def test_a_run_that_kept_nothing_is_named(tmp_path: Path) -> None:
    path = stored(tiny_spec(epochs=1), Store(tmp_path))
    with pytest.raises(mtlbench.UserError, match="neither traces nor instance parameters"):
        detector_scores(read_run(path))


def test_scores_by_epoch_are_those_had_training_ended_there() -> None:
    trace = np.array([[1.0, 4.0, np.nan], [3.0, 0.0, 5.0]], np.float32)
    loss = Scores("t", LOSS, 0, trace, np.array([2.0, 2.0, 5.0]), None)
    np.testing.assert_array_equal(loss.by_epoch(), [[1.0, 4.0, np.nan], [2.0, 2.0, 5.0]])
    sigma = Scores("t", SIGMA, 0, trace, trace[-1], None)
    np.testing.assert_array_equal(sigma.by_epoch(), trace)


def test_instances_without_a_label_are_no_suspects() -> None:
    assert order(np.array([0.5, np.nan, 2.0, 0.5])).tolist() == [2, 0, 3]


@given(
    st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=30).filter(
        lambda pairs: len({wrong for _, wrong in pairs}) == 2
    )
)
def test_auroc_is_the_share_of_pairs_in_order(pairs: list[tuple[int, bool]]) -> None:
    scores = np.array([score for score, _ in pairs], float)
    wrong = np.array([wrong for _, wrong in pairs])
    won = [1.0 if a > b else 0.5 if a == b else 0.0 for a in scores[wrong] for b in scores[~wrong]]
    assert roc_auc(scores, wrong) == pytest.approx(100 * np.mean(won))


def test_average_precision_by_hand_and_without_what_has_no_score() -> None:
    scores = np.array([5.0, 4.0, 3.0, 2.0, np.nan])
    wrong = np.array([True, False, True, False, True])
    assert average_precision(scores, wrong) == pytest.approx(100 * (1 / 1 + 2 / 3) / 2)
    assert math.isnan(average_precision(scores, np.zeros(5, bool)))
    assert math.isnan(roc_auc(scores, np.zeros(5, bool)))


# --- the share of wrong labels ------------------------------------------------------------------


@settings(max_examples=15)
@given(share=st.sampled_from([0.05, 0.2, 0.4, 0.6, 0.8]), seed=st.integers(0, 1000))
def test_two_groups_well_apart_give_their_shares(share: float, seed: int) -> None:
    draw = np.random.default_rng(seed)
    wrong = draw.random(2000) < share
    scores = draw.normal(np.where(wrong, 3.0, -3.0), 1.0)
    estimate = estimate_share(scores, MARGIN, resamples=20)
    assert estimate.verdict == "apart"
    assert estimate.share == pytest.approx(100 * wrong.mean(), abs=1.5)
    assert estimate.low <= estimate.share + 0.5
    assert estimate.share - 0.5 <= estimate.high


@settings(max_examples=15)
@given(shape=st.sampled_from(["normal", "skewed", "uniform"]), seed=st.integers(0, 1000))
def test_one_hump_is_never_taken_for_two_groups_well_apart(shape: str, seed: int) -> None:
    draw = np.random.default_rng(seed)
    scores = {
        "normal": draw.normal(size=2000),
        "skewed": draw.gamma(2.0, size=2000),
        "uniform": draw.random(2000),
    }[shape]
    assert estimate_share(scores, MARGIN, resamples=0).verdict != "apart"


def test_labels_on_the_bound_of_sigma_are_right() -> None:
    draw = np.random.default_rng(0)
    scores = np.concatenate([np.full(700, -4.0), draw.normal(1.5, 0.5, 300)])
    scores[:100] = draw.uniform(-4, -3, 100)
    estimate = estimate_share(scores, SIGMA)
    assert estimate.share == pytest.approx(30, abs=1)


def test_too_few_or_equal_scores_say_nothing() -> None:
    assert estimate_share(np.arange(10.0), LOSS).verdict == "too few"
    assert estimate_share(np.ones(100), LOSS).verdict == "one group"
    assert estimate_share(np.full(100, np.nan), LOSS).verdict == "too few"


# --- one list over all tasks --------------------------------------------------------------------


def scored(task: str, detector: str, score: list[float], **options: Any) -> Found:
    trace = np.array([score], np.float32)
    return Found.of(task, detector, [Scores(task, detector, 0, trace, trace[0], None, **options)])


def numbered(labels: Mapping[str, Sequence[float]]) -> Take:
    """Gives instances with these numbers."""

    def take(task: str, rows: np.ndarray, corrupted: np.ndarray | None) -> Suspects:
        info = {"name": task, "kind": "regression", "unit": "K", "classes": [], "palette": None}
        given = np.array(labels[task], np.float32)[rows]
        return Suspects(info, rows, np.empty((len(rows), 0)), given, None, {})

    return take


def test_the_list_is_in_the_order_of_the_mean_rank_over_the_number_of_labels() -> None:
    nan = float("nan")
    found = [
        scored("few", SIGMA, [1.0, 900.0, nan, nan, nan]),
        scored("few", LOSS, [1.0, 800.0, nan, nan, nan]),
        scored("some", SIGMA, [0.5, 0.1, 0.4, 0.3, 0.2]),  # ranks 1 5 2 3 4
        scored("some", LOSS, [0.3, 0.1, 0.4, 0.5, 0.2]),  # ranks 3 5 2 1 4
    ]
    table = list_suspects(found, numbered({"few": [1, 2] + [nan] * 3, "some": [10.5] * 5}), 4)
    # Of `some` 2, 5, 2, 2 and 4 of 5; of `few` 2 and 1 of 2.
    assert table["top_percent"].tolist() == [40, 40, 40, 50]
    assert list(zip(table["task"], table["index"], strict=True)) == [
        ("some", 0), ("some", 2), ("some", 3), ("few", 1),
    ]  # fmt: skip
    assert table["rank"].tolist() == [1, 2, 3, 4]
    assert table["task_rank"].tolist() == [1, 2, 3, 1]
    assert table["labels"].tolist() == [5, 5, 5, 2]
    assert table[SIGMA].tolist() == pytest.approx([0.5, 0.4, 0.3, 900.0])
    assert "predicted" not in table  # nothing is known of it


def test_what_is_predicted_is_by_the_network_that_believes_wrong_labels_least() -> None:
    take = numbered({"t": [133.4, 20.0]})
    by_equal, by_ilt = np.array([[100.0, 20.0]]), np.array([[-128.0, float("nan")]])
    loss = scored("t", LOSS, [2.0, 1.0], predictions=by_equal)
    sigma = scored("t", SIGMA, [2.0, 1.0], predictions=by_ilt)
    table = list_suspects([sigma, loss], take, 2)
    assert table["label"].tolist() == [133.4, 20.0]
    assert table["predicted"][0] == -128
    assert table["difference"][0] == pytest.approx(261.4)
    assert np.isnan(table["predicted"][1])
    assert list_suspects([loss], take, 2)["predicted"].tolist() == [100, 20]


def test_of_many_tasks_one_list_finds_the_lost_minus_sign_and_few_have_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "many.py").write_text(MANY_TASKS)
    PluginFile.read(tmp_path / "many.py").load()
    store = Store(tmp_path / "runs")
    for strategy in ("equal", "ilt"):
        (spec,) = plan("many", strategies=[strategy], variants=["clean"], seeds=1)
        stored(spec, store, keep_traces=True)
    command = ["suspects", "many", "--plugin", tmp_path / "many.py", "--results", store.root]
    command += ["--seeds", 1]
    finished = here([*command, "--out", tmp_path / "all"], capsys)
    assert finished.status == 0, finished.err
    table = pd.read_csv(tmp_path / "all" / "suspects.csv")
    assert len(table) == 100
    (first,) = table[(table["task"] == "b") & (table["task_rank"] == 1)].to_dict("records")
    assert (first["index"], first["name"], first["unit"]) == (7, "point 7", "K")
    given, predicted = float(first["label"]), float(first["predicted"])  # beside yes and no
    assert given < -300
    assert first["difference"] == pytest.approx(given - predicted, rel=1e-4)
    assert abs(predicted) < 300
    of_side = table[table["task"] == "side"]
    assert set(of_side["label"]) | set(of_side["predicted"]) <= {"no", "yes"}
    assert set(table["labels"]) <= {20, 80}
    written = {path.name.split("_")[1] for path in (tmp_path / "all").glob("suspects_*.png")}
    assert len(written) == 3
    assert len([line for line in finished.out.splitlines() if "point " in line]) == 20
    assert max(map(len, finished.out.splitlines()[:-3])) <= 120

    options = ["--task", "d", "side", "--top", 4, "--out", tmp_path / "two"]
    finished = here([*command, *options], capsys)
    assert finished.status == 0, finished.err
    assert {path.name.split("_")[1] for path in (tmp_path / "two").glob("*_*")} == {"d", "side"}
    assert set(pd.read_csv(tmp_path / "two" / "suspects.csv")["task"]) <= {"d", "side"}
    assert len([line for line in finished.out.splitlines() if "point " in line]) == 4


# --- the command --------------------------------------------------------------------------------


def test_suspects_are_written_as_tables_and_sheets(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    options = [*TINY_OPTIONS, "--seeds", 2, "--results", study, "--out", out, "--top", 12]
    finished = here(["suspects", "digits", "--variant", VARIANT, *options], capsys)
    assert finished.status == 0, finished.err
    assert sorted(path.name for path in out.iterdir() if path.name != "suspects.csv") == sorted(
        f"suspects_{task}_{detector}.{kind}"
        for task, detectors in (
            ("left", (SIGMA, ILT_LOSS, LOSS, MARGIN)),
            ("right", (SIGMA, ILT_LOSS, LOSS, MARGIN)),
            ("offset", (SIGMA, ILT_LOSS, LOSS)),
        )
        for detector in detectors
        for kind in ("csv", "png")
    )
    table = pd.read_csv(out / "suspects_left_loss.csv")
    assert list(table) == [
        "rank", "index", "score", "corrupted", "label", "predicted", "epoch_1", "epoch_2",
    ]  # fmt: skip
    assert table["rank"].tolist() == list(range(1, 13))
    assert table["score"].is_monotonic_decreasing
    np.testing.assert_allclose(table["score"], (table["epoch_1"] + table["epoch_2"]) / 2, rtol=1e-5)
    whole = pd.read_csv(out / "suspects.csv")
    assert whole["corrupted"].dtype == bool
    assert whole.loc[whole["task"] == "left", "corrupted"].any()
    assert not whole.loc[whole["task"] != "left", "corrupted"].any()
    runs = [read_run(path) for path in Store(study).run_directories() if "equal" in str(path)]
    losses = np.stack([run.traces()["loss"][:, :, 0].astype(float) for run in runs]).mean((0, 1))
    assert table["index"].tolist() == np.argsort(-losses, kind="stable")[:12].tolist()
    lines = finished.out.splitlines()
    assert max(map(len, lines[:-1])) <= 120
    (heads,) = [line for line in lines if "AUROC" in line]
    assert heads.split()[-4:] == ["fraction", "AUROC", "avg.", "precision"]
    assert {"left", "right", "offset"} <= set(lines)
    assert lines[-1].endswith("of single tasks for left, right, offset")
    assert f"23 files in {out}" in finished.out

    before = {path: path.read_bytes() for path in out.iterdir()}
    again = here(["suspects", "digits", "--variant", VARIANT, *options], capsys)
    assert again.out == finished.out
    assert {path: path.read_bytes() for path in out.iterdir()} == before


def test_a_sheet_has_a_tile_for_each_suspect_with_its_number_and_label() -> None:
    info = {"name": "left", "kind": "classification", "unit": "", "classes": [], "palette": None}
    index = np.array([7, 3, 12])
    suspects = Suspects(
        info,
        index,
        np.zeros((3, 1, 12, 12), np.uint8),
        np.array([4, 5, 6]),
        np.array([False, True, True]),
        {},
        predictions=np.array([4, 8, -1]),
    )
    figure = sheet_figure(suspects, "title")
    assert len(figure.axes) == 3
    texts = [text.get_text() for text in figure.texts]
    assert texts == ["title", "#7\n4", "#3\n5 (8?)", "#12\n6"]
    maps = dataclasses.replace(
        suspects, labels=np.zeros((3, 12, 12), np.int64), predictions=None, corrupted=None
    )
    assert len(sheet_figure(maps, "maps").axes) == 6
    numbers = dataclasses.replace(maps, labels=np.random.default_rng(0).random((3, 12, 12)))
    numbers = dataclasses.replace(numbers, task={**info, "kind": "regression", "unit": "m"})
    assert len(sheet_figure(numbers, "numbers").axes) == 7  # with a colour bar
    length = {**info, "kind": "regression", "unit": "m"}
    lengths = dataclasses.replace(
        suspects,
        task=length,
        labels=np.array([2.5, -1.0, 4.0], np.float32),
        predictions=np.array([2.25, -1.0, np.nan]),
    )
    texts = [text.get_text() for text in sheet_figure(lengths, "title").texts[1:]]
    assert texts == ["#7\n2.5 m (2.25?)", "#3\n-1 m (-1?)", "#12\n4 m"]


def test_a_suite_of_ones_own_without_pictures_or_known_errors_gets_suspects(
    train_here: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text(ONE_TASK)
    PluginFile.read(tmp_path / "mine.py").load()
    store = Store(tmp_path / "runs")
    for strategy in ("equal", "ilt"):
        (spec,) = plan("mine", strategies=[strategy], variants=["clean"], seeds=1)
        stored(spec, store, keep_traces=strategy == "equal")
    out = tmp_path / "out"
    command = ["suspects", "mine", "--plugin", tmp_path / "mine.py", "--seeds", 1, "--top", 5]
    finished = here([*command, "--results", store.root, "--out", out], capsys)
    assert finished.status == 0, finished.err
    assert "AUROC" not in finished.out
    assert len(list(out.iterdir())) == 9
    assert "corrupted" not in pd.read_csv(out / "suspects_side_sigma.csv")
    with Image.open(out / "suspects_side_sigma.png") as sheet:
        assert min(sheet.size) > 100


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--task", "lift"], "unknown task 'lift'; did you mean 'left'?"),
        (["--detectors", "sigm"], "unknown detector 'sigm'; did you mean 'sigma'?"),
        (["--detectors", ","], "no detector given"),
        (["--top", "0"], "top must be at least 1, but is 0"),
        (
            ["--task", "offset", "--detectors", "margin"],
            "is a regression; others: 'sigma', 'ilt-loss', 'loss'",
        ),
        (["--variant", "lift@0.4"], "unknown task in variant 'lift@0.4'"),
        (["--out", __file__], "is a file, not a directory"),
        (["--out", f"{__file__}/x"], "is a file, not a directory"),
        (["--out", "way"], "'way/suspects.csv' is in the way: it is not a file"),
        (["--out", "sheet"], "'sheet/suspects_left_loss.png' is in the way: it is not a file"),
        (["--results", "folds", "--detectors", "cleanlab"], "'folds/.folds' is in the way"),
        (
            ["--detectors", "cleanlab", "--set", "train_size=4"],
            "5 folds need as many training instances, but suite 'digits' has 4",
        ),
    ],
)
def test_bad_input_gets_one_line_and_nothing_is_trained(
    options: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sheet" / "suspects_left_loss.png").mkdir(parents=True)
    for folder in ("way", "folds"):
        (tmp_path / folder).mkdir()
    os.mkfifo(tmp_path / "way" / "suspects.csv")
    (tmp_path / "folds" / ".folds").write_text("kept")
    before = sorted(tmp_path.rglob("*"))
    finished = here(["suspects", "digits", *options], capsys)
    assert finished.status == 2
    (line,) = finished.err.splitlines()
    assert message in line
    assert sorted(tmp_path.rglob("*")) == before


def test_detectors_of_classes_are_refused_where_no_task_has_any(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    regression = ONE_TASK
    for old, new in (
        ('"classification", cross_entropy(), (accuracy(2),)', '"regression", l1(), (r2(),)'),
        ("Linear(8, 2)", "Linear(8, 1)"),
        (".relu())}", ".relu())[:, 0]}"),
        ("cross_entropy", "l1"),
        ("accuracy", "r2"),
    ):
        regression = regression.replace(old, new)
    (tmp_path / "mine.py").write_text(regression)
    options = ["mine", "--plugin", tmp_path / "mine.py", "--detectors", "margin"]
    options += ["--results", tmp_path / "runs"]
    for command in (["suspects", *options], ["detectors", *options, "--variants", "clean"]):
        finished = here(command, capsys)
        assert finished.status == 2
        assert finished.err == (
            "mtlbench: error: detectors 'margin' are for classification, but all tasks are "
            "regressions; others: 'sigma', 'ilt-loss', 'loss', 'fold-loss'\n"
        )
    assert not (tmp_path / "runs").exists()


def test_cleanlab_is_only_needed_where_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("mtlbench.analysis.label_errors.confident.find_spec", lambda name: None)
    command = ["suspects", "digits", "--detectors", "cleanlab", "--results", tmp_path / "runs"]
    finished = here(command, capsys)
    assert finished.status == 2
    assert "pip install 'mtlbench[cleanlab]'" in finished.err


def test_runs_that_all_diverged_are_named_and_no_traceback_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(tmp_path / "runs")
    record = trained(tiny_spec("equal", VARIANT), keep_traces=True)
    record.info["status"] = "diverged"
    store.write(record)
    command = ["suspects", "digits", "--variant", VARIANT, *TINY_OPTIONS, "--seeds", 1]
    finished = here([*command, "--detectors", "loss", "--results", store.root], capsys)
    assert finished.status == 2
    assert finished.err.splitlines()[-1] == (
        "mtlbench: error: no run of 'equal' on 'left@0.4' is done (1 diverged): there are no scores"
    )


# --- the comparison -----------------------------------------------------------------------------


def test_detectors_are_compared_by_epoch_and_seed(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = compare_detectors(study, "digits")
    left = frame[frame["task"] == "left"]
    assert len(left) == 4 * 2 * TINY["epochs"]  # detectors, seeds, epochs
    for path in Store(study).run_directories():
        run = read_run(path)
        if run.info["spec"]["strategy"] == "ilt":
            rows = left[(left["detector"] == SIGMA) & (left["seed"] == run.info["spec"]["seed"])]
            stored_accuracy = run.history()["detection_accuracy/left"]
            np.testing.assert_allclose(rows["accuracy"], stored_accuracy)
    others = frame[frame["task"] != "left"]
    assert others["last"].all()  # of labels that are right, there is the estimate only
    assert others["roc_auc"].isna().all()
    summary = summarise(frame).set_index(["task", "detector"])
    by_hand = left[left["last"] & (left["detector"] == LOSS)]["roc_auc"]
    assert summary.loc[("left", LOSS), "roc_auc"] == pytest.approx(by_hand.mean())
    assert summary.loc[("left", LOSS), "roc_auc_std"] == pytest.approx(by_hand.std(ddof=1))

    command = ["detectors", "digits", *TINY_OPTIONS, "--seeds", 2, "--results", study]
    printed = here([*command, "--figures", tmp_path / "figures"], capsys)
    assert printed.status == 0, printed.err
    assert "left (39.8 % corrupted)" in printed.out  # 102 of 256
    assert "summed loss" in printed.out
    assert "mean ± std over 2 runs" in printed.out
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == [
        "digits_left-0.4_detectors.png", "digits_left-0.4_detectors.svg",
    ]  # fmt: skip
    csv = here([*command, "--format", "csv"], capsys)
    assert csv.out.startswith("suite,variant,task,detector,settings,accuracy")


def test_levels_of_a_corruption_are_drawn_against_the_share_that_is_corrupted(
    study: Path,
) -> None:
    frame = compare_detectors(study, "digits")
    less = frame.assign(variant="left@0.2", corrupted=frame["corrupted"] / 2)
    figure = levels_figure(pd.concat([frame, less]), "left")
    assert [axes.get_title() for axes in figure.axes] == [
        "Top fraction (%)", "AUROC (%)", "Avg. precision (%)", "Est. wrong labels (%)",
    ]  # fmt: skip
    first = figure.axes[0].lines[0]
    share = 100 * 102 / TINY["train_size"]
    np.testing.assert_allclose(first.get_xdata(orig=False), [share / 2, share])


def test_a_suite_without_corrupted_variants_needs_one_to_compare_detectors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text(ONE_TASK)
    finished = here(["detectors", "mine", "--plugin", tmp_path / "mine.py"], capsys)
    assert finished.status == 2
    assert "has no corrupted variant by default" in finished.err


def test_suspects_with_units_and_without_and_label_maps_are_printed_in_one_list() -> None:
    nan = float("nan")
    rows = {
        "rank": [1, 2, 3],
        "task": ["size", "map", "side"],
        "index": [4, 5, 6],
        "label": [300.0, nan, "yes"],
        "predicted": [nan, nan, "no"],
        "unit": ["K", nan, None],
        "top_percent": [1.0, 2.0, 3.0],
    }
    found = Findings("mine clean", pd.DataFrame(rows), [], ["size"], Path("out"), 1)
    lines = [line.split() for line in render_found(found, 3).splitlines()]
    assert ["1", "size", "#4", "300.0", "–", "K", "1"] in lines
    assert ["2", "map", "#5", "–", "–", "–", "2"] in lines
    assert ["3", "side", "#6", "yes", "no", "–", "3"] in lines


# --- cross-validation ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folds(study: Path) -> list[FoldJob]:
    """A cross-validation in the study's directory."""
    folds = cross_validations([tiny_spec("equal", VARIANT, epochs=1)])
    for fold in folds:
        *_, ended = fold.train(Place(), None)
        fold.write(Store(study), ended)
    return folds


def test_each_instance_is_held_out_once_and_scored_by_its_given_class(
    study: Path, folds: list[FoldJob]
) -> None:
    pytest.importorskip("cleanlab")
    ((about, scores),) = fold_scores(Store(study), "digits", detectors=["cleanlab"])
    assert about["hash"] == folds[0].spec.hash
    by_task = {each.task: each for each in scores}
    assert set(by_task) == {"left", "right"}
    confidence = np.full(TINY["train_size"], np.nan)
    for fold in folds:
        with np.load(fold.path(Store(study))) as part:
            assert np.isnan(confidence[part["rows"]]).all()
            rows = np.arange(len(part["rows"]))
            confidence[part["rows"]] = part["probability/left"][rows, part["label/left"]]
    np.testing.assert_allclose(by_task["left"].score, 1 - confidence, rtol=1e-6)
    corrupted = by_task["left"].corrupted
    assert corrupted is not None
    assert corrupted.sum() == round(0.4 * TINY["train_size"])


def test_folds_of_other_settings_are_not_compared(study: Path, folds: list[FoldJob]) -> None:
    hashes = [tiny_spec("equal", VARIANT).hash]
    frame = compare_detectors(study, "digits", hashes=hashes)
    assert set(frame["detector"]) == {LOSS, MARGIN}
    frame = compare_detectors(study, "digits", [VARIANT], detectors=[LOSS, "fold-loss"])
    frame = frame[frame["last"]].set_index("detector")
    assert frame.loc["fold-loss", "settings"].tolist() == ["epochs=1"] * 3
    assert "epochs=1" not in set(frame.loc[LOSS, "settings"])


def test_a_fold_never_trains_on_what_it_predicts(folds: list[FoldJob]) -> None:
    first = [fold.hash for fold in folds]
    assert len(set(first)) == FOLDS
    other = FoldJob(tiny_spec("equal", VARIANT, seed=1), 0)
    assert other.group != folds[0].group


def test_suspects_by_the_out_of_fold_loss_have_what_networks_predict_that_have_not_seen_them(
    study: Path,
    folds: list[FoldJob],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "cleanlab", None)
    options = [*TINY_OPTIONS, "--epochs", "1", "--seeds", "1", "--variant", VARIANT, "--top", "5"]
    options += ["--task", "offset", "--detectors", "fold-loss"]
    finished = here(["suspects", "digits", *options, "--results", study, "--out", tmp_path], capsys)
    assert finished.status == 0, finished.err
    values, losses = np.full((2, TINY["train_size"]), np.nan)
    for fold in folds:
        with np.load(fold.path(Store(study))) as part:
            values[part["rows"]], losses[part["rows"]] = part["value"][:, 2], part["loss"][:, 2]
    suspects = pd.read_csv(tmp_path / "suspects.csv")
    worst = np.argsort(-losses)[:5]
    assert suspects["index"].tolist() == worst.tolist()
    np.testing.assert_allclose(suspects["predicted"], values[worst], rtol=1e-3)
    np.testing.assert_allclose(suspects["fold-loss"], losses[worst], rtol=1e-3)


def test_a_directory_with_folds_alone_is_compared_without_cleanlab(
    study: Path, folds: list[FoldJob], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cleanlab", None)
    assert set(compare_detectors(study, "digits")["detector"]) >= {LOSS, "fold-loss"}
    shutil.copytree(study / ".folds", tmp_path / ".folds")
    frame = compare_detectors(tmp_path, "digits", VARIANT)
    assert set(frame["detector"]) == {"fold-loss"}
    with pytest.raises(mtlbench.UserError, match=r"needs the package cleanlab"):
        compare_detectors(tmp_path, "digits", detectors=["cleanlab"])
    with pytest.raises(mtlbench.UserError, match="no runs of suite 'streets'"):
        compare_detectors(tmp_path, "streets")
