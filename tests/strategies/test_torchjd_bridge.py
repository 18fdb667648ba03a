"""TorchJD's classes by name: TorchJD itself is the oracle."""

import pickle
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from torch import Tensor
from torchjd import aggregation, scalarization
from torchjd.aggregation import (
    PCD,
    Aggregator,
    AlignedMTL,
    ConFIG,
    ExcessMTL,
    FairGrad,
    GradDrop,
    GradVac,
    PCGrad,
)
from torchjd.linalg import QuadprogProjector
from toy import (
    NUM_INSTANCES,
    Batch,
    Problem,
    Toy,
    assert_agrees,
    assert_same_bits,
    gradient,
    gradient_of,
    many_examples,
    problem,
    problems,
    step,
)

from mtlbench import strategies as package
from mtlbench.errors import UserError
from mtlbench.strategies import Strategy, torchjd_bridge
from mtlbench.strategies.base import strategies
from mtlbench.strategies.compose import Composition, build_strategy
from mtlbench.strategies.torchjd_bridge import UNFIT
from mtlbench.training.checkpoint import load_tree, save_tree

NEEDED: dict[str, dict[str, object]] = {
    "COSMOS": {"lambda_": 1, "weights": "1,2,3"},
    "Constant": {"weights": "1,2,3"},
    "ConstantWeighting": {"weights": "1,2,3"},
    "FairGrad": {"alpha": 1},
    "FairGradWeighting": {"alpha": 1},
    "Krum": {"n_byzantine": 0},
    "KrumWeighting": {"n_byzantine": 0},
    "PBI": {"theta": 1, "weights": [1, 2, 3]},
    "STCH": {"mu": 1},
    "TrimmedMean": {"trim_number": 1},
    "CAGrad": {"c": 0.5},
    "CAGradWeighting": {"c": 0.5},
}
"""Parameters that have no default."""

WRAPPERS = ("CRMOGMWeighting", "GramianWeightedAggregator", "WeightedAggregator")
BASES = ("Aggregator", "Scalarizer", "Weighting")
USABLE = sorted({*aggregation.__all__, *scalarization.__all__} - {*UNFIT, *WRAPPERS, *BASES})


def bridged(
    case: Problem, name: str, network: Toy, generator_seed: int = 0, **parameters: object
) -> Strategy:
    return build_strategy(
        f"torchjd:{name}",
        tasks=case.tasks,
        num_instances=NUM_INSTANCES,
        model=network,
        dtype=torch.float64,
        parameters={f"torchjd:{name}.{key}": value for key, value in parameters.items()},
        generator=torch.Generator().manual_seed(generator_seed),
    )


def all_present(case: Problem) -> Problem:
    for batch in case.batches:
        batch.present[:] = True
    return case


def jacobian(network: Toy, batch: Batch) -> Tensor:
    """The gradients [K, P] of the task losses over the trunk."""
    shared = list(network.trunk.parameters())
    return torch.stack(
        [
            torch.cat([g.flatten() for g in torch.autograd.grad(loss, shared, retain_graph=True)])
            for loss in network.task_losses(batch)
        ]
    )


def trunk_gradient(network: Toy) -> Tensor:
    return torch.cat([p.grad.flatten() for p in network.trunk.parameters()])


@pytest.mark.parametrize("name", USABLE)
def test_every_name_of_torchjd_works_with_and_without_all_labels(name: str) -> None:
    case = problem(steps=4)
    case.batches[0].present[:] = True
    case.batches[1].present[:] = True
    case.batches[2].present[:, 1] = name in ("Krum", "KrumWeighting", "TrimmedMean")
    case.batches[3].present[:] = False
    network = case.network()
    strategy = bridged(case, name, network, **NEEDED.get(name, {}))
    for batch in case.batches[:3]:
        batch.present[0, [0, 2]] = True
        assert step(strategy, network, batch).isfinite().all()
        assert gradient(network).any()
    strategy.end_epoch()
    assert not step(strategy, network, case.batches[3]).any()


@many_examples
@given(problems(steps=2, min_tasks=2, spread=1))
def test_an_aggregator_moves_the_trunk_as_in_torchjd_with_the_labelled_tasks(
    case: Problem,
) -> None:
    aggregators: list[tuple[str, Aggregator, dict[str, object]]] = [
        ("AlignedMTL", AlignedMTL(), {}),
        ("AlignedMTLWeighting", AlignedMTL(scale_mode="rmse"), {"scale_mode": "rmse"}),
        ("FairGrad", FairGrad(alpha=2.0), {"alpha": "2"}),
        ("ConFIG", ConFIG(), {}),
    ]
    for name, aggregator, parameters in aggregators:
        network = case.network()
        strategy = bridged(case, name, network, **parameters)
        for batch in case.batches:
            rows, present = jacobian(network, batch), batch.present.any(0)
            expected = aggregator(rows[present]) if present.any() else 0 * rows[0]
            step(strategy, network, batch)
            # Some are solved or inverted from a Gramian that is summed in another order.
            torch.testing.assert_close(trunk_gradient(network), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("name", "aggregator"),
    [
        ("GradVac", GradVac(beta=0.3)),
        ("PCD", PCD(beta=0.3)),
        ("ExcessMTL", ExcessMTL()),
        ("PCGrad", PCGrad()),
        ("GradDrop", GradDrop()),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_state_and_draws_go_on_from_step_to_step_as_in_torchjd(
    name: str, aggregator: Aggregator
) -> None:
    case = all_present(problem(steps=5))
    network = case.network()
    parameters = {"beta": 0.3} if hasattr(aggregator, "beta") else {}
    strategy = bridged(case, name, network, generator_seed=11, **parameters)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        for batch in case.batches:
            expected = aggregator(jacobian(network, batch))
            step(strategy, network, batch)
            assert_agrees(trunk_gradient(network), expected)


@many_examples
@given(problems(steps=2, spread=1))
def test_a_scalarizer_moves_as_in_torchjd_with_the_losses_of_the_labelled_tasks(
    case: Problem,
) -> None:
    tasks = len(case.kinds)
    numbers = torch.arange(1.0, tasks + 1, dtype=torch.float64)
    for name, parameters in [
        ("GeometricMean", {}),
        ("STCH", {"mu": 0.5, "weights": numbers}),
        ("Constant", {"weights": numbers}),
    ]:
        network = case.network()
        given_as_text = {
            key: value.tolist() if isinstance(value, Tensor) else value
            for key, value in parameters.items()
        }
        strategy = bridged(case, name, network, **given_as_text)
        for batch in case.batches:
            present = batch.present.any(0)
            losses = torch.stack(network.task_losses(batch))
            mine = {
                key: value[present] if isinstance(value, Tensor) else value
                for key, value in parameters.items()
            }
            objective = 0 * losses.sum()
            if present.any():
                objective = getattr(scalarization, name)(**mine)(losses[present])
            assert_agrees(step(strategy, network, batch), gradient_of(objective, network))


def test_a_vector_of_numbers_goes_with_the_tasks_that_are_left() -> None:
    case = problem(steps=1)
    network, batch = case.network(), case.batches[0]
    batch.present[:], batch.present[:, 1] = True, False
    rows = jacobian(network, batch)
    step(bridged(case, "ConstantWeighting", network, weights="0.2, 5, 0.8"), network, batch)
    assert_agrees(trunk_gradient(network), 0.2 * rows[0] + 0.8 * rows[2])


def test_upgrad_takes_the_parameters_of_its_projector() -> None:
    case = all_present(problem(steps=1))
    network, batch = case.network(), case.batches[0]
    aggregator = aggregation.UPGrad(
        torch.tensor([1.0, 2.0, 3.0]).double(),
        projector=QuadprogProjector(norm_eps=1e-5, reg_eps=0.1),
    )
    expected = aggregator(jacobian(network, batch))
    parameters = {"norm_eps": "1e-5", "reg_eps": 0.1, "pref_vector": "1,2,3"}
    step(bridged(case, "UPGrad", network, **parameters), network, batch)
    torch.testing.assert_close(trunk_gradient(network), expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", ["UW", "IMTLL"])
def test_what_a_scalarizer_learns_follows_plain_descent(name: str) -> None:
    case = all_present(problem(steps=4))
    network = case.network()
    strategy = bridged(case, name, network, lr=0.1)
    oracle = getattr(scalarization, name)(3).double()
    optimizer = torch.optim.SGD(oracle.parameters(), lr=0.1)
    for batch in case.batches:
        objective = oracle(torch.stack(network.task_losses(batch)))
        assert_agrees(step(strategy, network, batch), gradient_of(objective, network))
        optimizer.zero_grad()
        objective.backward(inputs=list(oracle.parameters()))
        optimizer.step()


@pytest.mark.parametrize("name", ["UW", "IMTLL"])
def test_what_is_learned_of_a_task_stays_where_it_has_no_label(name: str) -> None:
    case = problem(steps=1)
    network, batch = case.network(), case.batches[0]
    batch.present[:], batch.present[:, 1] = True, False
    strategy = bridged(case, name, network, lr=0.1)
    step(strategy, network, batch)
    (learned,) = strategy.task.parameters()
    assert learned[1] == 0
    assert learned[[0, 2]].all()


def test_dwa_hears_of_the_end_of_an_epoch() -> None:
    case = all_present(problem(steps=6))
    network = case.network()
    strategy, oracle = bridged(case, "DWA", network), scalarization.DWA()
    for number, batch in enumerate(case.batches):
        objective = oracle(torch.stack(network.task_losses(batch)))
        assert_agrees(step(strategy, network, batch), gradient_of(objective, network))
        if number % 2:
            strategy.end_epoch()
            oracle.step()


@pytest.mark.parametrize(
    "name",
    [
        "DWA",
        "ExcessMTL",
        "ExcessMTLWeighting",
        "GradDrop",
        "GradVac",
        "IMTLL",
        "NashMTL",
        "PCD",
        "PCGrad",
        "Random",
        "UW",
    ],
)
def test_a_restored_object_goes_on_bit_for_bit(name: str, tmp_path: Path) -> None:
    parameters = {"NashMTL": {"update_weights_every": 2}}.get(name, {})
    case = all_present(problem(steps=10))

    def train(strategy: Strategy, network: Toy, batches: list[Batch]) -> Tensor:
        gradients = []
        for number, batch in enumerate(batches):
            gradients.append(step(strategy, network, batch))
            with torch.no_grad():
                for parameter in network.parameters():
                    parameter -= 0.01 * parameter.grad
            if number % 2:
                strategy.end_epoch()
        return torch.stack(gradients)

    network = case.network()
    strategy = bridged(case, name, network, generator_seed=3, **parameters)
    train(strategy, network, case.batches[:5])
    state = {"network": dict(network.state_dict()), "strategy": dict(strategy.state_dict())}
    save_tree(tmp_path / "state.safetensors", state)

    restored = load_tree(tmp_path / "state.safetensors")
    other_network = case.network()
    other = bridged(case, name, other_network, generator_seed=4, **parameters)
    other_network.load_state_dict(restored["network"])
    other.load_state_dict(restored["strategy"])
    rest = case.batches[5:]
    assert_same_bits(train(other, other_network, rest), train(strategy, network, rest))


@pytest.mark.parametrize("name", ["Random", "GradDrop", "PCGrad"])
def test_the_global_generator_is_left_alone(name: str) -> None:
    case = problem(steps=1)
    network = case.network()
    before = torch.get_rng_state()
    step(bridged(case, name, network), network, case.batches[0])
    assert torch.equal(torch.get_rng_state(), before)


def test_it_is_pickled_with_its_state() -> None:
    case = problem()
    strategy = case.strategy("torchjd:UPGrad", case.network())
    assert type(pickle.loads(pickle.dumps(strategy)).task) is type(strategy.task)
    with pytest.raises(AttributeError, match="UPGrat"):
        getattr(torchjd_bridge.catalogue, "UPGrat")  # noqa: B009


def test_it_composes_with_an_instance_stage() -> None:
    composition = Composition.parse("torchjd:PCGrad+ilt")
    assert composition.name == "ilt+torchjd:PCGrad"
    assert composition.label == "ILT Params + PCGrad (TorchJD)"


def test_it_works_where_nothing_is_shared() -> None:
    case = problem()
    network, batch = case.network(), case.batches[0]
    network.trunk.requires_grad_(False)
    bridged(case, "ConFIG", network).backward(network.losses(batch), batch.index, batch.present)
    assert all(p.grad is not None for p in network.heads.parameters())


def test_parameters_are_those_of_the_class() -> None:
    entry = strategies.get("torchjd:MGDAWeighting")
    assert entry is strategies.get("torchjd:MGDAWeighting")
    assert entry.resolve({"epsilon": "0.01"}) == {
        "epsilon": 0.01,
        "max_iters": 100,
    }
    assert entry.summary == "TorchJD's MGDAWeighting: weights from the Gramian of the gradients."


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("torchjd:UPgrad", "unknown strategy 'torchjd:UPgrad'; did you mean 'torchjd:UPGrad'"),
        ("torchjd:", "unknown strategy 'torchjd:'; "),
        ("torchjd", "unknown strategy 'torchjd'; did you mean 'torchjd:NAME'"),
        ("torchjd:FAMO", "strategy 'torchjd:FAMO' does not fit: it measures the losses again"),
        ("torchjd:MoDoWeighting", "does not fit: it takes the gradients of two batches a step"),
        (
            "torchjd:CRMOGMWeighting",
            "'torchjd:CRMOGMWeighting' does not fit: its parameter 'weighting' cannot be given",
        ),
    ],
)
def test_a_name_that_is_none_or_does_not_fit_is_refused_in_one_line(
    name: str, message: str
) -> None:
    with pytest.raises(UserError, match=message) as raised:
        strategies.get(name)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", BASES)
def test_a_base_class_is_no_strategy(name: str) -> None:
    with pytest.raises(UserError, match=f"unknown strategy 'torchjd:{name}'"):
        strategies.get(f"torchjd:{name}")


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("MGDA", {"epsilon": 0}, "strategy 'torchjd:MGDA': epsilon must be positive"),
        ("MGDA", {"epsilon": "x"}, "torchjd:MGDA.epsilon must be a number, but is 'x'"),
        ("MGDA", {"epsilom": 1}, "unknown parameter 'torchjd:MGDA.epsilom'; did you mean"),
        ("GradDrop", {"f": "abs"}, r"unknown parameter 'torchjd:GradDrop\.f'"),
        ("AlignedMTL", {"scale_mode": "max"}, "scale_mode must be 'min' or 'median' or 'rmse'"),
        ("AlignedMTL", {"pref_vector": "1,x"}, "pref_vector must be numbers such as 0.2,0.8, but"),
        ("AlignedMTL", {"pref_vector": "1,nan,1"}, "pref_vector must be numbers such as 0.2,0.8"),
        ("AlignedMTL", {"pref_vector": "1,2"}, "strategy 'torchjd:AlignedMTL': "),
        ("Constant", {"weights": "1,2"}, r"should have shape \(2,\)"),
        ("Constant", {}, "parameter 'torchjd:Constant.weights' has no default; give --set"),
        ("Constant", {"weights": ""}, "weights must be numbers such as 0.2,0.8, but is ''"),
        ("FairGrad", {"alpha": 1, "max_iters": "2.5"}, "max_iters must be a whole number, but is"),
        ("Krum", {"n_byzantine": 1}, "should have at least 4 rows"),
        ("UW", {"lr": 0}, "lr must be above 0, but is 0.0"),
        ("ExcessMTL", {"on": "representation"}, "on must be 'parameters', but is"),
    ],
)
def test_a_parameter_that_does_not_fit_is_refused_in_one_line(
    name: str, parameters: dict[str, object], message: str
) -> None:
    case = problem()
    with pytest.raises(UserError, match=message) as raised:
        bridged(case, name, case.network(), **parameters)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "package"), [("FairGrad", "scipy"), ("UPGrad", "quadprog"), ("CAGrad", "cvxpy")]
)
def test_a_package_that_is_missing_is_named(
    name: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torchjd._mixins.find_spec", lambda name: None)
    case = problem()
    with pytest.raises(UserError, match=f"strategy 'torchjd:{name}': .*{package}") as raised:
        bridged(case, name, case.network(), **NEEDED.get(name, {}))
    assert str(raised.value).endswith("; pip install 'mtlbench[torchjd]'")
    assert "\n" not in str(raised.value)


def test_without_torchjd_its_names_are_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchjd", None)
    for name in [name for name in sys.modules if name.startswith(torchjd_bridge.__name__)]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(package, "torchjd_bridge")
    with pytest.raises(UserError, match="TorchJD is not installed; pip install 'mtlbench"):
        strategies.get("torchjd:UPGrad")
