"""A strategy inside of a module is loaded, averaged, frozen and cast with it, and trains on."""

import copy

import pytest
import torch
from test_own_loops import NAMES, Loop, Module
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from mtlbench import build_strategy
from mtlbench.errors import UserError


@pytest.mark.parametrize("name", NAMES)
def test_what_is_done_to_a_module_around_it_changes_no_training(name: str) -> None:
    module, plain = Module(name), Module(name)
    weights = copy.deepcopy(module.net.state_dict())
    module.bfloat16().requires_grad_(False)
    module.net.double().requires_grad_().load_state_dict(weights)
    averages = [
        AveragedModel(module, multi_avg_fn=get_ema_multi_avg_fn(0.9)),
        AveragedModel(module, use_buffers=True),
    ]
    module.loop.train(1)
    plain.loop.train(1)
    for average in [*averages, AveragedModel(module, use_buffers=True)]:
        average.update_parameters(module)
        average.update_parameters(module)

    loaded = Module(name)  # assign puts other parameters in place of those that an optimiser has
    loaded.load_state_dict(copy.deepcopy(module.state_dict()), assign=True)
    loaded.loop.optimizer = torch.optim.SGD(loaded.net.parameters(), lr=0.05)
    for one, other in zip(loaded.loop.train(3), plain.loop.train(3), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_precision_in_which_running_means_stand_still_is_refused(dtype: torch.dtype) -> None:
    with pytest.raises(UserError, match=r"dtype must be float32 or float64, .* but is "):
        build_strategy("dwa", tasks={"a": "regression"}, dtype=dtype)


def test_a_state_of_another_shape_is_refused() -> None:
    saved = Loop("ilt").strategy.state_dict()
    saved["instance.table.values"] = saved["instance.table.values"][:-1]
    with pytest.raises(RuntimeError, match=r"size mismatch .*\[31, .* and not \[32, "):
        Loop("ilt").strategy.load_state_dict(saved)
