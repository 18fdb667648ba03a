"""Two processes with parts of a batch train as one process with all of it."""

import functools
import io
import multiprocessing
import os
import socket
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from three_tasks import TASKS, Net, losses_of
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mtlbench import build_strategy
from mtlbench.errors import UserError
from mtlbench.strategies.base import GRADIENT, InstanceStage, LossWeighting, strategies
from mtlbench.strategies.compose import stage_of
from mtlbench.strategies.ranks import ranks_of
from mtlbench.strategies.strategy import Strategy

STEPS, BATCH, INSTANCES = 5, 8, 20
CUTS = (5, 4, 7, 1, 4)
"""How many instances of each batch are the first rank's."""

FORMS: list[tuple[str, dict[str, Any]]] = [
    *((entry.name, {}) for entry in strategies.entries()),
    *((name, {}) for name in ("ilt+mtu", "ilt+pcgrad", "data-parameters+mgda", "log+mgda")),
    ("data-parameters", {"data-parameters.level": "joint"}),
    ("nash-mtl", {"nash-mtl.max_norm": 0.05}),
]
for entry in strategies.entries():
    if stage_of(entry) == GRADIENT and not (entry.cls.tracks_parameters or entry.cls.own_gradients):
        FORMS.append((entry.name, {f"{entry.name}.on": "representation"}))
FORMS += [("mgda", {"mgda.every": 2}), ("nash-mtl", {"nash-mtl.every": 2})]


WITH_A_BAD_BATCH = ("equal", "mtu", "ilt", "mgda", "graddrop")


def trained(
    form: tuple[str, dict[str, Any]],
    rank: int | None,
    *,
    bad_step: int | None = None,
    give_ddp: bool = False,
) -> dict[str, Any]:
    """What some steps leave behind: the network, the weights, what is known of instances.

    Args:
        form: a strategy's name and parameters.
        rank: 0 or 1 of two processes; None for one process with all of each batch.
        bad_step: the first instance's loss is NaN in this step, which the loop then skips.
        give_ddp: the strategy gets `DistributedDataParallel`, not what is inside of it.
    """
    name, parameters = form
    net = Net()
    network = net if rank is None else DistributedDataParallel(net)
    strategy = build_strategy(
        name,
        tasks=TASKS,
        num_instances=INSTANCES,
        model=network if give_ddp else net,
        representation=net.trunk,
        parameters=parameters,
        dtype=torch.float64,
    )
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    chance = torch.Generator().manual_seed(0)
    held = torch.Generator().manual_seed(1)
    for step in range(STEPS):
        inputs = torch.randn(BATCH, 5, generator=chance, dtype=torch.float64)
        a = torch.randint(3, (BATCH,), generator=chance)
        b, c = torch.randn(2, BATCH, generator=chance, dtype=torch.float64)
        index = torch.randint(INSTANCES, (BATCH,), generator=chance)  # some twice
        present = torch.rand(BATCH, 3, generator=chance) < 0.7
        present[: BATCH // 2, step % 3] = False
        if step == 3:
            present[:, 1] = False
        part = slice(None)
        if rank is not None:
            part = slice(0, CUTS[step]) if rank == 0 else slice(CUTS[step], None)
        inputs, a, b, c, index, present = (x[part] for x in (inputs, a, b, c, index, present))
        targets = {"a": a, "b": b, "c": c}
        outputs = network(inputs)
        outputs = strategy.transform(outputs, targets, index, present)
        losses = losses_of(outputs, targets)
        if step == bad_step and rank != 1:
            present[0, 2], losses["c"] = (
                True,
                losses["c"] * torch.tensor([torch.nan] + [1] * (len(c) - 1)),
            )
        optimizer.zero_grad()
        strategy.backward(
            losses,
            index,
            present,
            held_out=held_out_losses(net, held, rank, step),
            closure=lambda inputs=inputs, targets=targets: losses_of(net(inputs), targets),
        )
        if all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters()):
            optimizer.step()
        if step == 2:
            bad = strategy.end_epoch({"a/accuracy": 50.0}).bad_batches
    learned = strategy.instance.log_variances()
    summary = strategy.end_epoch({"a/accuracy": 60.0})
    return {
        "network": [p.detach() for p in net.parameters()],
        "losses": summary.losses,
        "weights": summary.weights.nan_to_num(),
        "instances": torch.zeros(()) if learned is None else learned.nan_to_num(),
        "bad batches": torch.tensor(bad),
    }


def held_out_losses(
    net: nn.Module, chance: torch.Generator, rank: int | None, step: int
) -> Callable[[], dict[str, Tensor]]:
    """Those of a batch, of which each rank has a part; without labels of a task in one of them, or
    in both."""
    inputs = torch.randn(BATCH, 5, generator=chance, dtype=torch.float64)
    targets = {
        "a": torch.randint(3, (BATCH,), generator=chance),
        **dict(
            zip("bc", torch.randn(2, BATCH, generator=chance, dtype=torch.float64), strict=True)
        ),
    }
    rows = {"a": range(BATCH), "b": range(3 if step else 0), "c": range(BATCH)}
    mine = range(BATCH) if rank is None else [range(5), range(5, BATCH)][rank]

    def losses() -> dict[str, Tensor]:
        of_all = losses_of(net(inputs), targets)
        own = {task: [row for row in some if row in mine] for task, some in rows.items()}
        return {task: of_all[task][some] for task, some in own.items() if some}

    return losses


def one_step(
    rank: int | None,
    network: nn.Module,
    strategy: Any,
    *,
    index: Tensor | None = None,
) -> None:
    """Leaves the gradient of a batch of which each rank has a half, and one process, which is no
    rank, all; without a strategy, that of the plain sum of losses."""
    chance = torch.Generator().manual_seed(0)
    inputs = torch.randn(BATCH, 5, generator=chance, dtype=torch.float64)
    first, second = slice(0, BATCH // 2), slice(BATCH // 2, None)
    half = slice(None) if rank is None else first if rank == 0 else second
    outputs = network(inputs[half])
    losses = {task: 0.1 + (y if y.ndim == 1 else y[:, 0]).square() for task, y in outputs.items()}
    network.zero_grad()
    if strategy is None:
        sum(loss.mean() for loss in losses.values()).backward()  # type: ignore[union-attr]
    else:
        strategy.backward(losses, torch.arange(BATCH)[half] if index is None else index)


class LooksAlone(LossWeighting):
    """Of somebody who has one process in mind."""

    held_out = True


def built(name: str, net: nn.Module, **options: Any) -> Any:
    return build_strategy(
        name, tasks=TASKS, num_instances=INSTANCES, model=net, dtype=torch.float64, **options
    )


def what_was_said(attempt: Any) -> str:
    try:
        attempt()
    except (ValueError, UserError) as error:
        return str(error)
    return "nothing"


def other_matters(rank: int) -> dict[str, Any]:
    """What two ranks do beside training alike: gradients, and what is said."""
    found: dict[str, Any] = {}
    net = Net()
    ddp = DistributedDataParallel(net)
    for name in ("pcgrad", "equal", "mgda", "ilt"):  # each the newest of the network
        strategy = built(name, net)
        one_step(rank, ddp, strategy)
        found[f"turns: {name}"] = [p.grad for p in net.parameters()]
    strategy = built("pcgrad", net)
    one_step(rank, ddp, strategy)
    del strategy
    one_step(rank, ddp, None)
    found["turns: plain"] = [p.grad for p in net.parameters()]
    torch.save(net, io.BytesIO())  # a network that strategies have seen is as it was

    net = Net()
    one_step(rank, DistributedDataParallel(net), built("mgda", net, shared=net.trunk))
    found["shared named"] = [p.grad for p in net.parameters()]

    net = Net()
    wrong = torch.arange(BATCH // 2) + (1000 if rank == 1 else 0)
    attempt = functools.partial(
        one_step, rank, DistributedDataParallel(net), built("ilt", net), index=wrong
    )
    found["error of one rank"] = what_was_said(attempt)

    net = Net()
    attempt = functools.partial(
        one_step, rank, DistributedDataParallel(net, static_graph=True), built("mgda", net)
    )
    found["static graph"] = what_was_said(attempt)

    net = Net()
    strategy = built("pcgrad", net, generator=torch.Generator().manual_seed(rank))
    attempt = functools.partial(one_step, rank, DistributedDataParallel(net), strategy)
    found["other seeds"] = what_was_said(attempt)

    for matter, name, tasks in (
        ("other order", "mgda", dict(reversed(TASKS.items()))),
        ("other strategies", "mtu", TASKS),
    ):
        net = Net()
        mine = ("equal", TASKS) if rank == 0 else (name, tasks)
        strategy = build_strategy(mine[0], tasks=mine[1], model=net, dtype=torch.float64)
        attempt = functools.partial(one_step, rank, DistributedDataParallel(net), strategy)
        found[matter] = what_was_said(attempt)

    net = Net()
    strategy = built("ilt", net)
    if rank == 0:
        strategy.load_state_dict(built("ilt", net).state_dict())
    attempt = functools.partial(one_step, rank, DistributedDataParallel(net), strategy)
    found["state of one rank"] = what_was_said(attempt)

    for name in ("equal", "mgda"):
        net = Net()
        ddp = DistributedDataParallel(net)
        attempt = functools.partial(one_step, rank, ddp, built(name, net))
        with ddp.join():
            found[f"join, {name}"] = what_was_said(attempt)

    alone, first = [dist.new_group([each]) for each in range(2)][rank], dist.new_group([0])
    net = Net()
    one_step(None, net, built("mgda", net, process_group=alone))
    found["a group of one"] = [p.grad for p in net.parameters()]
    found["no member"] = what_was_said(lambda: built("equal", net, process_group=first))

    net = Net()
    strategy = built("mgda", net.trunk)
    attempt = functools.partial(one_step, rank, DistributedDataParallel(net), strategy)
    found["parts outside"] = what_was_said(attempt)
    found["looks alone"] = what_was_said(
        lambda: Strategy(InstanceStage(), LooksAlone(), tasks=TASKS, model=net)
    )
    return found


def work(rank: int, port: int, directory: str) -> None:
    """One of two processes: trains every form and leaves what came out in a file."""
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=2, timeout=timedelta(seconds=120))
    results: dict[str, Any] = {}
    try:
        for form in FORMS:
            results[str(form)] = trained(form, rank)
        for name in WITH_A_BAD_BATCH:
            results[f"bad, {name}"] = trained((name, {}), rank, bad_step=1)
        results["other matters"] = other_matters(rank)
        results["given DDP"] = trained(("mgda", {}), rank, give_ddp=True)
    except Exception:
        results["error"] = traceback.format_exc()
    torch.save(results, Path(directory) / f"{rank}.pt")
    os._exit(0)


@pytest.fixture(scope="module")
def of_ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    directory = tmp_path_factory.mktemp("ranks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=work, args=(r, port, str(directory))) for r in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
    return [torch.load(directory / f"{rank}.pt", weights_only=True) for rank in range(2)]


def test_all_of_them_could_be_trained(of_ranks: list[dict[str, Any]]) -> None:
    assert [results.get("error") for results in of_ranks] == [None, None]


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_two_ranks_train_as_one_process(
    form: tuple[str, dict[str, Any]], of_ranks: list[dict[str, Any]]
) -> None:
    expected = trained(form, None)
    one, other = (results[str(form)] for results in of_ranks)
    for a, b in zip(one["network"], other["network"], strict=True):
        assert torch.equal(a, b)
    for name in expected:
        torch.testing.assert_close(one[name], expected[name], rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(other[name], one[name], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", WITH_A_BAD_BATCH)
def test_a_bad_batch_of_one_rank_is_skipped_by_all(
    name: str, of_ranks: list[dict[str, Any]]
) -> None:
    expected = trained((name, {}), None, bad_step=1)
    assert expected["bad batches"] == 1
    for results in of_ranks:
        torch.testing.assert_close(results[f"bad, {name}"], expected, rtol=1e-9, atol=1e-11)


def test_a_strategy_may_get_the_wrapped_network(of_ranks: list[dict[str, Any]]) -> None:
    for results in of_ranks:
        torch.testing.assert_close(
            results["given DDP"], trained(("mgda", {}), None), rtol=1e-9, atol=1e-11
        )


@pytest.mark.parametrize("name", ["pcgrad", "equal", "mgda", "ilt", "plain"])
def test_strategies_may_take_turns(name: str, of_ranks: list[dict[str, Any]]) -> None:
    whole = Net()
    one_step(None, whole, None if name == "plain" else built(name, whole))
    expected = [p.grad for p in whole.parameters()]
    for results in of_ranks:
        got = results["other matters"][f"turns: {name}"]
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-11)


def test_heads_are_brought_together_where_the_shared_part_is_named(
    of_ranks: list[dict[str, Any]],
) -> None:
    whole = Net()
    one_step(None, whole, built("mgda", whole, shared=whole.trunk))
    expected = [p.grad for p in whole.parameters()]
    for results in of_ranks:
        got = results["other matters"]["shared named"]
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-11)


def test_a_group_of_one_process_is_a_process_by_itself(of_ranks: list[dict[str, Any]]) -> None:
    whole = Net()
    one_step(None, whole, built("mgda", whole))
    expected = [p.grad for p in whole.parameters()]
    for results in of_ranks:
        torch.testing.assert_close(
            results["other matters"]["a group of one"], expected, rtol=1e-9, atol=1e-11
        )


@pytest.mark.parametrize(
    ("matter", "said"),
    [
        ("error of one rank", ("rank 1 cannot go on", "index must be from 0 to 19")),
        ("static graph", ("static_graph=True",) * 2),
        ("other seeds", ("generator must have the same seed on all ranks",) * 2),
        ("parts outside", ("parameters outside of model",) * 2),
        ("other order", ("tasks in one order",) * 2),
        ("other strategies", ("build the strategy alike, with one name",) * 2),
        ("state of one rank", ("load its state on all or none",) * 2),
        ("join, equal", ("give every rank as many batches",) * 2),
        ("join, mgda", ("give every rank as many batches",) * 2),
        ("no member", ("nothing", "process_group must be one that this process is in")),
        ("looks alone", ("does not say that it brings its gradients together",) * 2),
    ],
)
def test_what_cannot_be_right_is_said_by_all_ranks(
    matter: str, said: tuple[str, str], of_ranks: list[dict[str, Any]]
) -> None:
    for results, words in zip(of_ranks, said, strict=True):
        assert words in results["other matters"][matter]


def test_a_strategy_from_before_the_others_joined_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from mtlbench.strategies import strategy as module

    net = Net()
    late = built("equal", net)
    alone = built("equal", net, process_group=False)
    monkeypatch.setattr(module, "ranks_of", lambda group: object())
    with pytest.raises(ValueError, match="build it after init_process_group"):
        one_step(0, net, late)
    one_step(0, net, alone)


def test_a_process_by_itself_has_no_ranks() -> None:
    assert ranks_of(None) is None
    assert ranks_of(False) is None
