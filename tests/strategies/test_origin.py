"""A strategy takes over the state of one that was built as it was, and of no other."""

import copy
import io
from typing import Any

import numpy as np
import pytest
import torch
from test_own_loops import Loop, state_of
from three_tasks import TASKS

from mtlbench import build_strategy
from mtlbench.strategies.base import InstanceStage, LossWeighting
from mtlbench.strategies.strategy import Strategy

OTHERS: dict[str, dict[str, Any]] = {
    "in another order": {"tasks": dict(reversed(TASKS.items()))},
    "renamed": {"tasks": {"a": "classification", "b": "regression", "d": "regression"}},
    "one fewer": {"tasks": {"a": "classification", "b": "regression"}},
    "one more": {"tasks": {**TASKS, "d": "regression"}},
    "another kind": {"tasks": {**TASKS, "a": "regression"}},
    "another strategy": {"name": "log"},
}


def built(name: str, tasks: dict[str, str] = TASKS, num_instances: int = 32, **given: Any) -> Any:
    net = Loop("equal").net
    return build_strategy(name, tasks=tasks, num_instances=num_instances, model=net, **given)


def refused(strategy: Strategy, state: dict[str, Any], words: str) -> None:
    before = state_of(strategy)
    with pytest.raises(ValueError, match=words) as raised:
        strategy.load_state_dict(state)
    assert "\n" not in str(raised.value)
    assert state_of(strategy) == before


@pytest.mark.parametrize("name", ["equal", "mtu", "ilt+pcgrad"])
@pytest.mark.parametrize("kind", OTHERS)
def test_a_state_of_other_tasks_or_another_strategy_is_refused(name: str, kind: str) -> None:
    loop = Loop(name)
    loop.train(2)
    state = copy.deepcopy(loop.strategy.state_dict())
    words = {"another kind": "kinds", "another strategy": "strategy 'log|has 'log"}
    refused(
        built(**{"name": name, **OTHERS[kind]}), state, words.get(kind, r"tasks \['a', 'b', 'c'")
    )


def test_a_state_of_other_parameters_is_refused() -> None:
    state = built("ilt+pcgrad", parameters={"ilt.lr": 2.0}).state_dict()
    refused(built("ilt+pcgrad"), state, r"with ilt\.lr 2\.0, and this one has ")


def test_a_state_that_does_not_say_where_it_is_from_is_refused() -> None:
    state = built("mtu").state_dict()
    del state["_extra_state"]["origin"]
    refused(built("mtu"), state, "with strategy None, and this one has 'mtu'")


def test_the_number_of_instances_counts_where_they_are_told_apart() -> None:
    for name in ("ilt", "elr", "data-parameters"):
        refused(built(name, num_instances=40), built(name).state_dict(), "num_instances 32, .* 40")
    for name in ("mtu", "trim"):
        built(name, num_instances=40).load_state_dict(built(name).state_dict())


def test_stages_of_ones_own_are_told_apart_by_their_classes() -> None:
    class Mine(LossWeighting):
        pass

    class Other(LossWeighting):
        pass

    one, other = (Strategy(InstanceStage(), stage(), tasks=TASKS) for stage in (Mine, Other))
    refused(one, other.state_dict(), r"InstanceStage\+Other")


def test_parameters_of_numpy_and_tensors_are_saved_as_plain_ones() -> None:
    class Mine(LossWeighting):
        pass

    def mine(*parameters: Any) -> Strategy:
        given = dict(zip("abc", parameters, strict=True))
        return Strategy(InstanceStage(), Mine(), tasks=TASKS, parameters=given)

    file = io.BytesIO()
    array, tensor = np.array([1.0, 2.0]), torch.tensor([3, 4])
    torch.save(mine(np.float64(2), array, tensor).state_dict(), file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    mine(np.float64(2), array, tensor).load_state_dict(state)
    mine(2, [1, 2], [3, 4]).load_state_dict(state)
    refused(mine(2, [1, 5], [3, 4]), state, r"with b \[1\.0, 2\.0\], and this one has \[1, 5\]")


@pytest.mark.parametrize("name", ["gradnorm", "mtu", "ilt"])
def test_two_strategies_with_one_state_go_on_apart(name: str) -> None:
    loop, alone = Loop(name), Loop(name)
    loop.train(2)
    alone.strategy.load_state_dict(loop.strategy.state_dict())
    before = state_of(alone.strategy)
    loop.backward(2)
    assert state_of(alone.strategy) == before
