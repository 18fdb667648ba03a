"""Variants of the training labels: what they are called, whom they hit, and what they do."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mtlbench.data.corruption import CORRUPTIONS, corrupt
from mtlbench.data.variants import Variant
from mtlbench.errors import UserError
from mtlbench.tasks.task import Task, cross_entropy, l1

IGNORE = 255
COUNT = 500
CLASSES = ("a", "b", "c", "d")


def classification(name: str, corruptions: tuple[str, ...], ignore: float | None = None) -> Task:
    return Task(
        name, "classification", cross_entropy(), (), corruptions, classes=CLASSES, ignore=ignore
    )


TASKS = (
    classification("digit", ("other-class", "next-class", "shuffle")),
    classification("map", ("permute", "shuffle"), ignore=IGNORE),
    Task("depth", "regression", l1(), (), ("uniform", "offset", "shuffle"), ignore=-1.0),
)


def labels() -> dict[str, Tensor]:
    """Clean labels: a class, a label map and a depth map, with unlabelled places."""
    chance = torch.Generator().manual_seed(0)
    maps = torch.randint(4, (COUNT, 4, 6), generator=chance).to(torch.uint8)
    maps[torch.rand(maps.shape, generator=chance) < 0.1] = IGNORE
    depth = 2 + 3 * torch.rand(COUNT, 4, 6, generator=chance)
    depth[torch.rand(depth.shape, generator=chance) < 0.1] = -1
    return {"digit": torch.randint(4, (COUNT,), generator=chance), "map": maps, "depth": depth}


def corrupted(text: str, seed: int = 0) -> tuple[dict[str, Tensor], Tensor]:
    return corrupt(Variant.parse(text, TASKS), TASKS, labels(), names=("toy", seed))


# --- names ---


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("clean", "clean"),
        (" clean ", "clean"),
        ("digit@0.4", "digit@0.4"),
        ("digit@0.40", "digit@0.4"),
        ("digit@4e-1", "digit@0.4"),
        ("digit@1.0", "digit@1"),
        ("digit@0.4:other-class", "digit@0.4"),
        ("digit@0.4:next-class", "digit@0.4:next-class"),
        ("depth+digit@0.4", "digit+depth@0.4"),
        ("depth+digit@0.4:shuffle", "digit+depth@0.4:shuffle"),
        ("depth@0.4, digit@0.2:shuffle", "digit@0.2:shuffle,depth@0.4"),
        ("depth@0.1,map+digit@0.2", "digit+map@0.2,depth@0.1"),
    ],
)
def test_every_spelling_of_a_variant_has_one_name(text: str, name: str) -> None:
    variant = Variant.parse(text, TASKS)
    assert variant.name == name
    assert Variant.parse(name, TASKS) == variant


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "variant '' is neither 'clean' nor of the form TASK@FRACTION[:KIND], such as"),
        ("dirty", "variant 'dirty' is neither 'clean' nor of the form TASK@FRACTION[:KIND]"),
        ("clean,digit@0.4", "variant 'clean,digit@0.4' is neither"),
        ("digti@0.4", "unknown task in variant 'digti@0.4': 'digti'; did you mean 'digit'?"),
        ("@0.4", "unknown task in variant '@0.4': ''"),
        ("digit@", "variant 'digit@': fraction '' is not a number"),
        ("digit@much", "variant 'digit@much': fraction 'much' is not a number"),
        ("digit@0", "variant 'digit@0': fraction must be above 0 and at most 1, but is 0"),
        ("digit@1.5", "variant 'digit@1.5': fraction must be above 0 and at most 1"),
        ("digit@-0.1", "variant 'digit@-0.1': fraction must be above 0 and at most 1"),
        ("digit@nan", "variant 'digit@nan': fraction must be above 0 and at most 1"),
        (
            "digit@0.4:nextclass",
            "unknown corruption kind of task 'digit' in variant 'digit@0.4:nextclass': "
            "'nextclass'; did you mean 'next-class'",
        ),
        ("depth@0.4:next-class", "unknown corruption kind of task 'depth'"),
        ("digit@0.1,digit@0.2", "variant 'digit@0.1,digit@0.2' corrupts task 'digit' twice"),
        ("digit+digit@0.1", "variant 'digit+digit@0.1' corrupts task 'digit' twice"),
    ],
)
def test_a_variant_that_does_not_exist_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(UserError) as raised:
        Variant.parse(text, TASKS)
    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value)


def test_a_variant_tells_the_fraction_of_each_corrupted_task() -> None:
    fractions = Variant.parse("depth@0.1,map+digit@0.2", TASKS).fractions()
    assert fractions == {"digit": 0.2, "map": 0.2, "depth": 0.1}
    assert Variant.parse("clean", TASKS).fractions() == {}


def test_every_kind_of_corruption_says_what_it_does_in_one_line() -> None:
    assert set(CORRUPTIONS) == {
        "next-class",
        "offset",
        "other-class",
        "permute",
        "shuffle",
        "uniform",
    }
    assert all(kind.summary.endswith(".") for kind in CORRUPTIONS.values())


# --- which instances ---


@pytest.mark.parametrize("fraction", [0.002, 0.1, 0.29, 0.4, 1.0])
def test_the_corrupted_share_is_exact(fraction: float) -> None:
    _, mask = corrupted(f"digit@{fraction}")
    assert mask.sum(0).tolist() == [round(fraction * COUNT), 0, 0]


def test_nothing_is_corrupted_in_the_clean_variant() -> None:
    given_labels, mask = corrupted("clean")
    assert not mask.any()
    for task, clean in labels().items():
        assert torch.equal(given_labels[task], clean)


def test_instances_corrupted_at_a_smaller_fraction_are_among_those_at_a_larger_one() -> None:
    masks = [corrupted(f"map@{fraction}")[1][:, 1] for fraction in (0.1, 0.2, 0.4, 0.8, 1)]
    for smaller, larger in pairwise(masks):
        assert (smaller <= larger).all()


def test_tasks_of_one_clause_are_corrupted_on_the_same_instances() -> None:
    _, mask = corrupted("digit+depth@0.4")
    assert torch.equal(mask[:, 0], mask[:, 2])
    assert not mask[:, 1].any()


def test_tasks_of_two_clauses_are_corrupted_independently() -> None:
    _, mask = corrupted("digit@0.4,depth@0.4")
    both = int((mask[:, 0] & mask[:, 2]).sum())
    # 0.16 · 500 = 80 expected; the standard deviation of a hypergeometric draw is 5.4.
    assert abs(both - 80) < 5 * 5.4


def test_another_corruption_seed_hits_other_instances() -> None:
    _, one = corrupted("digit@0.4", seed=0)
    _, other = corrupted("digit@0.4", seed=1)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("text", ["digit@0.4", "map@0.4", "depth@0.4:shuffle", "digit+depth@0.4"])
def test_the_same_variant_and_seed_give_the_same_labels(text: str) -> None:
    torch.manual_seed(1)
    one, mask = corrupted(text)
    torch.manual_seed(2)
    other, other_mask = corrupted(text)
    assert torch.equal(mask, other_mask)
    assert all(torch.equal(one[task], other[task]) for task in one)


# --- what happens to the labels ---

ALL_KINDS = [f"{task.name}@0.4:{kind}" for task in TASKS for kind in task.corruptions]


@pytest.mark.parametrize("text", ALL_KINDS)
def test_only_corrupted_labels_change_and_the_originals_are_left_alone(text: str) -> None:
    targets = labels()
    given_labels, mask = corrupt(Variant.parse(text, TASKS), TASKS, targets, names=("toy",))
    for k, task in enumerate(TASKS):
        clean = labels()[task.name]
        assert torch.equal(targets[task.name], clean)
        assert given_labels[task.name].dtype == clean.dtype
        assert torch.equal(given_labels[task.name][~mask[:, k]], clean[~mask[:, k]])
    corrupted_task = text.partition("@")[0]
    assert not torch.equal(given_labels[corrupted_task], targets[corrupted_task])


@pytest.mark.parametrize("text", [t for t in ALL_KINDS if not t.startswith("digit")])
def test_places_that_are_not_labelled_stay_so(text: str) -> None:
    given_labels, mask = corrupted(text)
    for k, task in enumerate(TASKS):
        rows = mask[:, k]
        clean, now = labels()[task.name][rows], given_labels[task.name][rows]
        assert torch.equal(now[~task.labelled(clean)], clean[~task.labelled(clean)])


def change_of(text: str) -> tuple[Tensor, Tensor]:
    """Clean and corrupted labels of the corrupted instances."""
    given_labels, mask = corrupted(text)
    task = text.partition("@")[0]
    rows = mask[:, [t.name for t in TASKS].index(task)]
    return labels()[task][rows], given_labels[task][rows]


def test_another_class_is_never_the_same_class_and_every_other_one_occurs() -> None:
    clean, now = change_of("digit@1:other-class")
    shifts = (now - clean).remainder(4)
    assert set(shifts.tolist()) == {1, 2, 3}
    assert now.min() == 0
    assert now.max() == 3


def test_the_next_class_is_one_further_and_the_last_becomes_the_first() -> None:
    clean, now = change_of("digit@1:next-class")
    assert torch.equal(now, torch.tensor([1, 2, 3, 0])[clean])


def test_uniform_noise_stays_within_the_range_of_the_labels_and_fills_it() -> None:
    clean, now = change_of("depth@1:uniform")
    here = clean != -1
    low, high = clean[here].min(), clean[here].max()
    noise = (now - clean)[here]
    # One unit in the last place of float32 at 10 is 1e-6.
    assert low - 1e-5 <= noise.min() < low + 0.01
    assert high - 0.01 < noise.max() <= high + 1e-5
    assert noise.view(-1)[:100].unique().numel() > 90


def test_an_offset_is_one_draw_from_the_range_of_the_labels_for_each_instance() -> None:
    clean, now = change_of("depth@1:offset")
    low, high = clean[clean != -1].min(), clean[clean != -1].max()
    offsets = []
    for before, after in zip(clean, now, strict=True):
        difference = (after - before)[before != -1]
        torch.testing.assert_close(
            difference, difference[:1].expand_as(difference), rtol=0, atol=1e-5
        )
        offsets.append(difference[0].item())
    assert low - 1e-5 <= min(offsets) < low + 0.1
    assert high - 0.1 < max(offsets) <= high + 1e-5


@pytest.mark.parametrize("seed", range(8))
def test_shuffled_labels_are_those_of_other_corrupted_instances(seed: int) -> None:
    """A plain permutation would leave a label in its place in two of three draws."""
    task = Task("depth", "regression", l1(), (), ("shuffle",))
    clean = torch.arange(100.0)
    given_labels, mask = corrupt(
        Variant.parse("depth@0.4", [task]), [task], {"depth": clean}, names=("toy", seed)
    )
    rows = mask[:, 0]
    assert (given_labels["depth"][rows] != clean[rows]).all()
    assert torch.equal(given_labels["depth"][rows].sort().values, clean[rows])


def boundaries(maps: Tensor) -> tuple[Tensor, Tensor]:
    return maps[..., 1:, :] != maps[..., :-1, :], maps[..., 1:] != maps[..., :-1]


@pytest.mark.parametrize(("count", "exchanged"), [(3, 2), (2, 1), (1, 1)])
def test_a_label_with_no_other_to_be_exchanged_with_is_not_corrupted(
    count: int, exchanged: int
) -> None:
    some = {name: values[:count] for name, values in labels().items()}
    variant = Variant.parse("depth@0.6:shuffle", TASKS)
    if exchanged > 1:
        _, mask = corrupt(variant, TASKS, some, names=("toy", 0))
        assert int(mask.sum()) == exchanged
    else:
        with pytest.raises(UserError, match=r"corrupts no label: .* of another to exchange with"):
            corrupt(variant, TASKS, some, names=("toy", 0))


@settings(max_examples=50)
@given(
    st.lists(st.sampled_from([0, 1, 2, 3, IGNORE]), min_size=12, max_size=12).filter(
        lambda values: set(values) != {IGNORE}
    ),
    st.integers(0, 9),
)
def test_permuting_changes_every_labelled_scene_and_keeps_its_regions(
    values: list[int], seed: int
) -> None:
    task = TASKS[1]
    clean = torch.tensor([values], dtype=torch.uint8).view(1, 3, 4)
    given_labels, _ = corrupt(Variant.parse("map@1", [task]), [task], {"map": clean}, names=(seed,))
    now = given_labels["map"]
    labelled = clean != IGNORE
    assert torch.equal(now == IGNORE, ~labelled)
    assert (now != clean).any()
    for before, after in zip(boundaries(clean), boundaries(now), strict=True):
        assert torch.equal(after, before)
    classes = clean[labelled].unique()
    if len(classes) > 1:
        assert torch.equal(now[labelled].unique(), classes)


def test_a_label_map_with_one_class_gets_another_one_throughout() -> None:
    task = TASKS[1]
    clean = torch.full((20, 2, 2), 2, dtype=torch.uint8)
    given_labels, _ = corrupt(Variant.parse("map@1", [task]), [task], {"map": clean}, names=())
    now = given_labels["map"].flatten(1)
    assert (now != 2).all()
    assert (now == now[:, :1]).all()
    assert set(now.unique().tolist()) == {0, 1, 3}
