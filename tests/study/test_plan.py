"""From what is asked for to run specs."""

import subprocess
import sys
from typing import Any

import pytest
from conftest import CHECKOUT, TINY, tiny_spec
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import mtlbench
from mtlbench.errors import UserError
from mtlbench.strategies.base import LossWeighting, strategies
from mtlbench.study.plan import plan


def test_a_study_is_every_variant_with_every_strategy_and_seed() -> None:
    specs = plan("digits", strategies=["equal", "ilt"], variants=["clean", "left@0.4"], seeds=2)
    assert {(s.variant, s.strategy, s.seed) for s in specs} == {
        (variant, strategy, seed)
        for variant in ("clean", "left@0.4")
        for strategy in ("equal", "ilt")
        for seed in (0, 1)
    }
    assert len(specs) == len({spec.hash for spec in specs}) == 8


def test_one_seed_of_everything_comes_before_the_next_seed() -> None:
    seeds = [spec.seed for spec in plan("digits", seeds=3)]
    assert seeds == sorted(seeds)
    assert set(seeds) == {0, 1, 2}


def test_a_suite_brings_its_own_study() -> None:
    specs = plan("digits")
    assert {spec.variant for spec in specs} == {"clean", "left@0.4"}
    assert {spec.strategy for spec in specs} == {"equal", "mtu", "dwa", "gls", "ilt"}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"strategies": ["pcgrad+ilt"]}, {"strategies": ["ilt+pcgrad"]}),
        ({"strategies": ["ilt+equal"]}, {"strategies": ["ilt"]}),
        ({"variants": ["right+left@0.40"]}, {"variants": ["left+right@0.4"]}),
        ({"variants": ["offset@.2,left@0.4"]}, {"variants": ["left@0.4,offset@0.2"]}),
        ({"variants": ["left@0.4:other-class"]}, {"variants": ["left@0.4"]}),
        ({"overrides": {"epochs": "3"}}, {"overrides": {"epochs": 3}}),
        ({"overrides": {"ilt.lr": "4"}}, {"overrides": {"ilt.lr": 4.0}}),
    ],
)
def test_two_spellings_of_one_run_have_one_hash(one: dict, other: dict) -> None:
    assert [s.hash for s in plan("digits", **one)] == [s.hash for s in plan("digits", **other)]


@pytest.mark.parametrize(
    "change",
    [{"epochs": 3}, {"lr": 0.01}, {"ilt__lr": 2.0}, {"corruption_seed": 1}, {"seed": 1}],
    ids=lambda change: next(iter(change)),
)
def test_whatever_decides_a_result_changes_the_hash(change: dict) -> None:
    assert tiny_spec("ilt", "left@0.4", **change).hash != tiny_spec("ilt", "left@0.4").hash


def test_a_parameter_of_one_strategy_leaves_the_runs_of_another_as_they_were() -> None:
    before = plan("digits", strategies=["equal", "ilt"], seeds=1)
    after = plan("digits", strategies=["equal", "ilt"], seeds=1, overrides={"ilt.lr": 1.0})
    changed = {a.strategy for b, a in zip(before, after, strict=True) if a.hash != b.hash}
    assert changed == {"ilt"}


def test_what_is_named_twice_is_run_once() -> None:
    variants = ["clean", "left@0.4", "left@0.40"]
    specs = plan("digits", strategies=["equal", "equal"], variants=variants, seeds=1)
    assert [(spec.variant, spec.strategy) for spec in specs] == [
        ("clean", "equal"),
        ("left@0.4", "equal"),
    ]


def test_all_stands_for_every_registered_strategy_also_beside_compositions() -> None:
    specs = plan(
        "digits",
        strategies=["all", "ilt+pcgrad"],
        variants=["clean"],
        seeds=1,
        found_by=lambda spec: {},
    )
    registered = [entry.name for entry in strategies.entries()]
    assert [spec.strategy for spec in specs] == [*registered, "ilt+pcgrad"]


@pytest.fixture(scope="module")
def another_process() -> list[str]:
    """What a process that plans a study says of it: its hash, and whether it has the compiler."""
    code = (
        "import sys\n"
        "from mtlbench.study.plan import plan\n"
        f"spec, = plan('digits', strategies=['ilt'], variants=['clean'], seeds=1, overrides={TINY})"
        "\nprint(spec.hash)\nprint('torch._dynamo' in sys.modules)"
    )
    other = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(CHECKOUT), "PYTHONHASHSEED": "7"},
    )
    return other.stdout.splitlines()


def test_a_hash_is_the_same_in_another_process(another_process: list[str]) -> None:
    assert another_process[0] == tiny_spec("ilt").hash


def test_the_compiler_of_pytorch_is_not_imported_to_plan_a_study(
    another_process: list[str],
) -> None:
    """It takes half as long as PyTorch itself."""
    assert another_process[1] == "False"


@given(st.integers(1, 10**9), st.floats(1e-12, 1e6))
def test_numbers_hash_alike_as_text_and_as_numbers(size: int, lr: float) -> None:
    typed, numbers = (
        plan("digits", strategies=["equal"], variants=["clean"], seeds=1, overrides=overrides)
        for overrides in (
            {"train_size": str(size), "lr": repr(lr)},
            {"train_size": size, "lr": lr},
        )
    )
    assert [spec.hash for spec in typed] == [spec.hash for spec in numbers]


@given(st.text(max_size=12))
def test_any_text_as_a_variant_is_one_or_one_line_that_says_why_not(text: str) -> None:
    specs, refusal = [], ""
    try:
        specs = plan("digits", strategies=["equal"], variants=[text], seeds=1)
    except UserError as error:
        refusal = str(error)
    assert len(specs) + len(refusal.splitlines()) == 1


@given(st.text(max_size=12))
def test_any_text_as_a_strategy_is_one_or_one_line_that_says_why_not(text: str) -> None:
    specs, refusal = [], ""
    try:
        specs = plan("digits", strategies=[text], variants=["clean"], seeds=1)
    except UserError as error:
        refusal = str(error)
    assert len(specs) + len(refusal.splitlines()) == 1


def test_a_strategy_that_raises_when_it_is_made_is_left_to_its_runs() -> None:
    class Raising(LossWeighting):
        """Cannot be made."""

        def __init__(self) -> None:
            raise ArithmeticError("not to be made")

    mtlbench.register_strategy("raising")(Raising)
    specs = plan("digits", strategies=["raising", "equal"], variants=["clean"], seeds=1)
    assert [spec.strategy for spec in specs] == ["raising", "equal"]


def test_a_strategy_parameter_without_a_default_is_named() -> None:
    class Demanding(LossWeighting):
        """Wants a number."""

        def __init__(self, power: float) -> None:
            super().__init__()
            self.power = power

        def weights(self, losses: Tensor, present: Tensor) -> Tensor:
            return losses**self.power

    mtlbench.register_strategy("demanding")(Demanding)
    with pytest.raises(UserError, match=r"demanding\.power") as caught:
        plan("digits", strategies=["demanding"], variants=["clean"], seeds=1)
    assert "inspect" not in str(caught.value)
    (spec,) = plan(
        "digits",
        strategies=["demanding"],
        variants=["clean"],
        seeds=1,
        overrides={"demanding.power": "2"},
    )
    assert spec.strategy_parameters == {"demanding.power": 2.0}


@pytest.mark.parametrize("seeds", [0, -1, 99_999_999, "1", 1.5, True])
def test_a_number_of_seeds_that_cannot_be_is_refused(seeds: Any) -> None:
    with pytest.raises(UserError, match="seeds must be at least 1 and at most 100000"):
        plan("digits", seeds=seeds)


@pytest.mark.parametrize("overrides", [[1], {1: 2}, "epochs=1", 3])
def test_overrides_that_are_no_values_by_name_are_refused(overrides: Any) -> None:
    with pytest.raises(UserError, match="overrides are values by the names of parameters"):
        plan("digits", overrides=overrides)


@pytest.mark.parametrize("names", [[], iter(()), 3, [None]])
def test_strategies_and_variants_that_are_no_names_are_refused(names: Any) -> None:
    with pytest.raises(UserError):
        plan("digits", strategies=names)
    with pytest.raises(UserError):
        plan("digits", variants=names)


def test_one_name_may_be_given_by_itself() -> None:
    (spec,) = plan("digits", strategies="equal", variants="clean", seeds=1)
    assert (spec.strategy, spec.variant) == ("equal", "clean")
