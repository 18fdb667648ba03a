"""From a name such as `ilt+pcgrad` to its two stages and their parameters."""

import pytest

from mtlbench.errors import UserError
from mtlbench.strategies.compose import Composition


@pytest.mark.parametrize(
    ("text", "name", "label"),
    [
        ("equal", "equal", "Eq. Weight"),
        ("mtu", "mtu", "MTU"),
        ("ilt", "ilt", "ILT Params"),
        ("ilt+equal", "ilt", "ILT Params"),
        ("equal+ilt", "ilt", "ILT Params"),
        ("ilt+pcgrad", "ilt+pcgrad", "ILT Params + PCGrad"),
        ("pcgrad+ilt", "ilt+pcgrad", "ILT Params + PCGrad"),
        (" dwa + ilt ", "ilt+dwa", "ILT Params + DWA"),
        ("log", "log", "SI"),
        ("ilt+log", "ilt+log", "ILT Params + SI"),
        ("cagrad+log", "log+cagrad", "SI + CAGrad"),
        ("log+mgda+ilt", "ilt+log+mgda", "ILT Params + SI + MGDA"),
    ],
)
def test_every_spelling_has_one_name_and_one_label(text: str, name: str, label: str) -> None:
    composition = Composition.parse(text)
    assert (composition.name, composition.label) == (name, label)
    assert Composition.parse(composition.name) == composition


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ilt+ilt", "strategy 'ilt+ilt' has two instance stages; one is the most"),
        ("mtu+dwa", "strategy 'mtu+dwa' has two task stages; one is the most"),
        ("ilt+equal+mtu", "strategy 'ilt+equal+mtu' has two task stages; one is the most"),
        ("log+dwa", "strategy 'log+dwa' has two task stages; one is the most"),
        ("log+log", "strategy 'log+log' has two task stages; one is the most"),
        ("log+log+mgda", "strategy 'log+log+mgda' has two task stages; one is the most"),
        ("log+mgda+pcgrad", "strategy 'log+mgda+pcgrad' has two task stages; one is the most"),
        ("log+db-mtl", "strategy 'log+db-mtl': 'db-mtl' takes the logarithm by itself"),
        ("dwaa", "unknown strategy 'dwaa'; did you mean 'dwa'"),
        ("ilt+pcgard", "unknown strategy 'pcgard'; did you mean 'pcgrad'"),
        ("ILT", "unknown strategy 'ILT'; known: "),
        ("ilt+", "unknown strategy ''; known: "),
        ("", "unknown strategy ''; known: "),
    ],
)
def test_a_name_that_stands_for_nothing_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(UserError) as raised:
        Composition.parse(text)
    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value)


def test_parameters_are_the_defaults_overridden_and_converted() -> None:
    resolved = Composition.parse("ilt+dwa").resolve(
        {"ilt.lr": "0.5", "dwa.temperature": 1, "dwa.scales": "left:2,right:0.5"}
    )
    assert resolved == {
        "ilt.lr": 0.5,
        "ilt.momentum": 0.9,
        "ilt.clamp": 4.0,
        "dwa.temperature": 1.0,
        "dwa.scales": {"left": 2.0, "right": 0.5},
    }
    assert isinstance(resolved["dwa.temperature"], float)


@pytest.mark.parametrize("name", ["equal", "gls"])
def test_a_strategy_without_parameters_resolves_to_none(name: str) -> None:
    assert Composition.parse(name).resolve({}) == {}


@pytest.mark.parametrize("name", ["pcgrad", "log+pcgrad"])
def test_every_gradient_weighting_has_the_common_options(name: str) -> None:
    resolved = Composition.parse(name).resolve({"pcgrad.every": "5"})
    assert resolved == {"pcgrad.on": "parameters", "pcgrad.every": 5}


@pytest.mark.parametrize(
    ("name", "stage"),
    [("log", "loss"), ("log+mgda", "gradient"), ("ilt+log+mgda", "instance"), ("ilt", "instance")],
)
def test_what_a_composition_weighs_by(name: str, stage: str) -> None:
    assert Composition.parse(name).stage == stage


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("ilt", {"ilt.lrr": 1}, "unknown parameter 'ilt.lrr'; did you mean 'ilt.lr'"),
        (
            "ilt",
            {"dwa.temperature": 1},
            "strategy 'ilt' has no parameter 'dwa.temperature'; ilt.lr, ilt.momentum, ilt.clamp",
        ),
        ("gls", {"lr": 1}, "strategy 'gls' has no parameter 'lr'; it has none"),
        ("ilt", {"ilt.lr": "fast"}, "ilt.lr must be a number, but is 'fast'"),
        ("ilt", {"ilt.lr": True}, "ilt.lr must be a number, but is True"),
        ("ilt", {"ilt.lr": float("nan")}, "ilt.lr must be a number, but is nan"),
        ("sdmgrad", {"sdmgrad.steps": 2.5}, "sdmgrad.steps must be a whole number, but is 2.5"),
        (
            "static",
            {"static.weights": "left"},
            "static.weights must be a mapping such as left:1,right:0.5, but is 'left'",
        ),
    ],
)
def test_a_parameter_that_does_not_fit_is_refused_in_one_line(
    name: str, values: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError) as raised:
        Composition.parse(name).resolve(values)
    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value)


def test_a_value_out_of_its_range_names_the_strategy_the_range_and_the_value() -> None:
    with pytest.raises(UserError) as raised:
        Composition.parse("ilt+dwa").build({"dwa.temperature": -1}, tasks={"a": "regression"})
    assert str(raised.value) == "strategy 'ilt+dwa': temperature must be above 0, but is -1.0"
