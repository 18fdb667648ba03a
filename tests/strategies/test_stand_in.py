"""The number that stands for the losses where a trainer calls `backward` by itself."""

from typing import Any

import pytest
import torch
from test_own_loops import FORMS, Loop
from three_tasks import TASKS, Net
from torch import Tensor

from mtlbench import build_strategy


class Deferred(Loop):
    """The same loop, but `backward` is called on the number."""

    def __init__(self, *form: Any, factor: float = 1) -> None:
        super().__init__(*form)
        self.factor, self.step = factor, self.strategy.backward
        self.strategy.backward = self.called  # type: ignore[method-assign]
        self.deferring = False

    def called(self, losses: Any, index: Tensor, present: Any = None, **options: Any) -> None:
        if self.deferring:  # by the number
            self.step(losses, index, present, **options)
            return
        self.deferring = True
        (self.factor * self.strategy.loss(losses, index)).backward()
        self.deferring = False


@pytest.mark.parametrize(("name", "parameters"), FORMS, ids=str)
def test_its_backward_pass_is_that_of_the_strategy(name: str, parameters: dict[str, Any]) -> None:
    for factor in (1.0, 0.5):
        deferred, loop = Deferred(name, parameters, factor=factor), Loop(name, parameters)
        for one, other in zip(deferred.train(5), loop.train(5, scale=factor), strict=True):
            assert torch.equal(one, other)


def one_batch(name: str, device: str = "cpu") -> tuple[Net, Any, dict[str, Tensor]]:
    net = Net().to(device)
    strategy = build_strategy(
        name, tasks=TASKS, model=net, num_instances=4, device=device, dtype=torch.float64
    )
    outputs = net(torch.ones(4, 5, device=device, dtype=torch.float64))
    return net, strategy, {task: y.reshape(4, -1).square().sum(1) for task, y in outputs.items()}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", ["equal", "ilt+mtu", "ilt+cagrad", "pcgrad", "graddrop"])
def test_its_backward_pass_is_right_in_the_thread_of_a_gpu(name: str) -> None:
    net, strategy, losses = one_batch(name, "cuda")
    strategy.backward(losses, torch.arange(4, device="cuda"))
    expected = [p.grad for p in net.parameters()]
    net, strategy, losses = one_batch(name, "cuda")
    strategy.loss(losses, torch.arange(4, device="cuda")).backward()
    torch.testing.assert_close([p.grad for p in net.parameters()], expected)


def test_a_penalty_beside_it_has_its_own_gradient() -> None:
    net, strategy, losses = one_batch("mgda")
    strategy.backward(losses)
    expected = [p.grad + 0.02 * p.detach() for p in net.parameters()]
    net, strategy, losses = one_batch("mgda")
    penalty = sum(p.square().sum() for p in net.parameters())
    (strategy.loss(losses) + 0.01 * penalty).backward()
    torch.testing.assert_close([p.grad for p in net.parameters()], expected)


def test_it_is_the_sum_of_the_means_over_the_labels_that_are_there() -> None:
    strategy = build_strategy("equal", tasks=TASKS)
    losses = {"a": torch.tensor([1.0, 3.0]), "b": torch.tensor([5.0, 9.0]), "c": torch.ones(2)}
    present = torch.tensor([[True, False, False], [True, True, False]])
    assert strategy.loss(losses, present=present).item() == 2 + 9
    assert strategy.loss(losses).item() == 2 + 7 + 1


def test_without_gradients_it_is_a_number_and_changes_nothing() -> None:
    _, strategy, losses = one_batch("ilt")
    with torch.no_grad():
        number = strategy.loss(losses)  # no index of an instance
    assert not number.requires_grad
    assert strategy.end_epoch().losses.isnan().all()


def test_a_gradscaler_of_half_precision_multiplies_the_gradient_alone() -> None:
    """65536, where the scaler begins, is no number of float16."""
    net, strategy, losses = one_batch("ilt+mtu")
    strategy.backward(losses, torch.arange(4))
    expected, state = [p.grad for p in net.parameters()], strategy.state_dict()
    net, strategy, losses = one_batch("ilt+mtu")
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale(strategy.loss(losses, torch.arange(4))).backward()
    optimizer = torch.optim.SGD(net.parameters())
    scaler.unscale_(optimizer)
    torch.testing.assert_close([p.grad for p in net.parameters()], expected)
    for key, value in strategy.state_dict().items():
        if isinstance(value, Tensor):
            assert torch.equal(value, state[key])
    strategy = build_strategy("equal", tasks={"a": "regression"})
    number = strategy.loss({"a": torch.ones(2, dtype=torch.float16, requires_grad=True)})
    assert (number * 65536.0).isfinite()


def test_the_losses_of_a_batch_go_through_backward_once() -> None:
    _, strategy, losses = one_batch("equal")
    number = strategy.loss(losses)
    number.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="backward already"):
        number.backward()


def test_what_does_not_fit_is_said_as_ever() -> None:
    _, strategy, losses = one_batch("ilt")
    with pytest.raises(ValueError, match="losses must name the tasks"):
        strategy.loss({"a": losses["a"]})
    with pytest.raises(ValueError, match="index is needed"):
        strategy.loss(losses).backward()
