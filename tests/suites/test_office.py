"""The suites of Office-31 and Office-Home: splits, order, and small trees to trained runs."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import here, trained
from offices import write_office

from mtlbench.data.office import OFFICE_31, OFFICE_HOME
from mtlbench.data.prepare import prepare
from mtlbench.data.rows import to_device
from mtlbench.data.splits import Data, Split
from mtlbench.errors import UserError
from mtlbench.store.runs import RunRecord
from mtlbench.study.plan import plan
from mtlbench.suites.build import build_suite

CPU = torch.device("cpu")
COUNTS = {"amazon": 20, "dslr": 5, "webcam": 8}
"""Images of each of three classes: 12, 4 and 4 of amazon for training, validation and test; 3, 1
and 1 of dslr; 4, 1 and 3 of webcam."""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("office")
    prepare("office", write_office(root / "raw", counts=COUNTS), root / "out", workers=1, size=64)
    return root / "out"


@pytest.fixture(scope="module")
def prepared_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("office-home")
    prepare("office", write_office(root / "raw", OFFICE_HOME), root / "out", workers=1, size=64)
    return root / "out"


def data_of(prepared: Path, suite: str = "office") -> Data:
    return build_suite(suite, {"prepared": str(prepared)}).data()


def run_of(
    prepared: Path, strategy: str, variant: str = "clean", suite: str = "office", **options: object
) -> RunRecord:
    chosen = {"epochs": 2, "width": 2, "batch_size": 12, "prepared": prepared, **options}
    texts = {name: str(value) for name, value in chosen.items()}
    (spec,) = plan(suite, strategies=[strategy], variants=[variant], seeds=1, overrides=texts)
    record = trained(spec)
    assert record.info["status"] == "done", record.info["error"]
    return record


def accuracies(record: RunRecord) -> dict[str, float]:
    return {m["task"]: m["value"] for m in record.info["metrics"] if m["metric"] == "accuracy"}


def sizes(split: Split) -> list[int]:
    assert split.present is not None
    return split.present.sum(0).tolist()


# --- tasks and data -------------------------------------------------------------------------------


def test_tasks_are_known_before_any_data_is_there() -> None:
    office, home = build_suite("office", {}), build_suite("office-home", {})
    assert [task.name for task in office.tasks()] == ["amazon", "dslr", "webcam"]
    assert [task.name for task in home.tasks()] == ["art", "clipart", "product", "real_world"]
    assert {task.classes for task in office.tasks()} == {OFFICE_31.classes}
    assert {task.classes for task in home.tasks()} == {OFFICE_HOME.classes}


def test_the_recipe_is_the_published_one() -> None:
    for name, domains in (("office", 3), ("office-home", 4)):
        suite = build_suite(name, {})
        assert (suite.epochs, suite.lr, suite.batch_size) == (100, 1e-4, 64 * domains)
        assert (suite.weight_decay, suite.epoch_rule) == (0, "best")
        assert suite.lr_factor(0) == suite.lr_factor(0.99) == 1


def test_three_fifths_of_each_class_are_for_training_and_a_fifth_for_validation(
    prepared: Path,
) -> None:
    data = data_of(prepared)
    assert [sizes(split) for split in (data.train, data.validation, data.test)] == [
        [3 * 12, 3 * 3, 3 * 4],
        [3 * 4, 3 * 1, 3 * 1],
        [3 * 4, 3 * 1, 3 * 3],
    ]
    for split in (data.train, data.validation, data.test):
        labels = split.targets["amazon"][torch.arange(len(split))]
        assert split.present is not None
        for own in split.present.T:  # as many of each class
            assert len({int((labels[own] == label).sum()) for label in range(3)}) == 1


def test_an_image_is_in_one_split_alone(prepared: Path) -> None:
    data = data_of(prepared)
    names = [name for s in (data.train, data.validation, data.test) for name in s.names or ()]
    assert len(names) == len(set(names)) == 3 * sum(COUNTS.values())


def test_an_image_has_the_label_of_its_own_domain_alone(prepared: Path) -> None:
    split = data_of(prepared).train
    assert split.names is not None
    assert split.present is not None
    for name, present in zip(split.names, split.present.tolist(), strict=True):
        assert present == [name.startswith(f"{domain}/") for domain in OFFICE_31.domains]
    # The tree's classes are red, green and blue.
    images = to_device(split.inputs, CPU).float()  # type: ignore[arg-type]
    colour = images.mean((2, 3)).argmax(1)
    for domain in OFFICE_31.domains:
        assert torch.equal(split.targets[domain][torch.arange(len(split))].long(), colour)


def test_a_broken_image_moves_none_of_another_class(tmp_path: Path, prepared: Path) -> None:
    raw = write_office(tmp_path / "raw", counts=COUNTS)
    (raw / "amazon" / "images" / "bike" / "frame_0001.jpg").write_text("not found")
    report = prepare("office", raw, tmp_path / "out", workers=1, size=64)
    assert report.counts["broken file"] == 1
    of_others = [
        [
            [n for n in split.names or () if not n.startswith("amazon/images/bike/")]
            for split in (data.train, data.validation, data.test)
        ]
        for data in (data_of(prepared), data_of(tmp_path / "out"))
    ]
    assert of_others[0] == of_others[1]


def test_every_batch_has_as_many_images_of_each_domain(prepared: Path) -> None:
    suite = build_suite("office", {"prepared": str(prepared)})
    train = suite.data().train
    order = suite.order(train, torch.Generator().manual_seed(0))
    assert train.present is not None
    seen = train.present[order].int()
    assert len(order) == 3 * 36  # as often as there are domains and images of the largest
    for batch in seen.split(12):
        assert batch.sum(0).tolist() == [4, 4, 4]
    counts = torch.bincount(order, minlength=len(train))
    assert (counts[train.present[:, 0]] == 1).all()
    assert (counts[train.present[:, 1]] == 4).all()  # 9 images, 36 visits
    assert (counts[train.present[:, 2]] == 3).all()


def test_images_are_mirrored_and_nothing_else() -> None:
    suite = build_suite("office", {})
    images = torch.rand(64, 3, 4, 6)
    targets = {domain: torch.arange(64) for domain in OFFICE_31.domains}
    changed, same = suite.augment(images, targets, torch.Generator().manual_seed(0))
    mirrored = (changed == images.flip(-1)).flatten(1).all(1)
    assert torch.equal(changed[~mirrored], images[~mirrored])
    assert 16 < mirrored.sum() < 48
    assert all(torch.equal(same[name], targets[name]) for name in targets)


# --- runs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["equal", "pcgrad", "ilt+cagrad"])
def test_a_run_tells_the_accuracy_of_every_domain(prepared: Path, strategy: str) -> None:
    assert set(accuracies(run_of(prepared, strategy))) == set(OFFICE_31.domains)


def test_equal_weights_learn_what_can_be_seen(prepared: Path) -> None:
    record = run_of(prepared, "equal", epochs=12, lr=3e-3, width=4)
    assert accuracies(record) == dict.fromkeys(OFFICE_31.domains, 100.0)


def test_office_home_is_a_suite_of_its_own(prepared_home: Path) -> None:
    record = run_of(prepared_home, "equal", "art@0.4", "office-home", batch_size=16)
    assert set(accuracies(record)) == set(OFFICE_HOME.domains)


def test_only_labels_of_the_corrupted_domain_are_wrong(prepared: Path) -> None:
    record = run_of(prepared, "ilt", "amazon@0.4")
    train = data_of(prepared).train
    assert train.present is not None
    corrupted = record.instance_parameters["corrupted"]
    amazon = train.present[:, 0].numpy()
    assert not corrupted[:, 1:].any()
    assert not corrupted[~amazon].any()
    # Of all instances 40 % are hit, of which those of amazon count.
    assert 0.2 < corrupted[amazon, 0].mean() < 0.6
    assert (record.labels["clean/amazon"] != record.labels["given/amazon"]).all()
    log_variance = record.instance_parameters["log_variance"]
    assert np.array_equal(np.isfinite(log_variance[-1]), train.present.numpy())


def test_a_network_for_each_domain_stands_beside_them(
    prepared: Path, train_here: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"prepared": prepared, "epochs": 2, "width": 2, "batch_size": 12}
    options = [part for item in settings.items() for part in ("--set", "{}={}".format(*item))]
    results = ["--results", f"{tmp_path}/runs"]
    command = ["run", "office", "--strategies", "single,equal", "--variants", "clean"]
    ended = here([*command, "--seeds", "1", *options, *results], capsys)
    assert ended.status == 0, ended.err
    shown = here(["compare", "office", *results], capsys)
    assert shown.status == 0, shown.err
    assert re.search(r"amazon +dslr +webcam", shown.out)
    assert "Single-task" in shown.out
    assert "Single-task: 3 networks were trained for each run" in shown.out


# --- what is refused ------------------------------------------------------------------------------


def test_a_directory_that_is_not_prepared_is_named_with_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["run", "office-home", "--set", f"prepared={tmp_path}", "--results", f"{tmp_path}/r"]
    ended = here(command, capsys)
    assert (ended.status, ended.out) == (2, "")
    assert ended.err.count("\n") == 1
    assert "mtlbench prepare office --raw" in ended.err
    assert not (tmp_path / "r").exists()


def test_the_other_dataset_is_named_with_its_suite(prepared: Path, prepared_home: Path) -> None:
    with pytest.raises(UserError, match="holds Office-Home, whose suite is 'office-home': mtlb"):
        plan("office", overrides={"prepared": str(prepared_home)})
    with pytest.raises(UserError, match="holds Office-31, whose suite is 'office': mtlbench run"):
        plan("office-home", overrides={"prepared": str(prepared)})


def test_a_domain_too_small_to_be_divided_is_refused_before_anything_is_trained(
    tmp_path: Path,
) -> None:
    raw = write_office(tmp_path / "raw", counts={"amazon": 5, "dslr": 4, "webcam": 5})
    prepare("office", raw, tmp_path / "out", workers=1, size=64)
    with pytest.raises(UserError, match="too few images of 'dslr' to leave one for validation"):
        plan("office", overrides={"prepared": str(tmp_path / "out")})


def test_a_width_of_nothing_is_refused() -> None:
    with pytest.raises(UserError, match="width must be at least 1"):
        build_suite("office", {"width": 0})


def test_the_command_prepares_and_says_what_there_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = write_office(tmp_path / "raw", classes=OFFICE_31.classes, counts=dict.fromkeys(COUNTS, 1))
    (raw / "amazon" / "images" / "mug" / "frame_0001.jpg").write_text("not found")
    command = ["prepare", "office", "--raw", str(raw), "--out", f"{tmp_path}/out", "--size", "64"]
    ended = here([*command, "--workers", "1"], capsys)
    assert ended.status == 0, ended.err
    assert "92 images" in ended.out
    assert "1 × broken file, such as amazon/images/mug/frame_0001.jpg" in ended.out
