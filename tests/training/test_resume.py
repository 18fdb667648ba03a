"""A run goes on from its checkpoint to the same bits, or begins anew and says so."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import tiny_spec, training

from mtlbench.spec import RunSpec
from mtlbench.store.runs import RunRecord
from mtlbench.store.schema import DONE
from mtlbench.training import loop
from mtlbench.training.checkpoint import load_tree, save_tree
from mtlbench.training.job import Notice, Place
from mtlbench.training.jobs import cross_validations
from mtlbench.training.run import Run

STRATEGY = "ilt+mtu"
"""Tables of instances, parameters with an optimiser of their own, and Adam for the network."""


def finished(
    spec: RunSpec, checkpoint: Path | None = None, **options: Any
) -> tuple[RunRecord, list[str]]:
    """The record of a run trained to its end, and what it said on the way."""
    *said, ended = training(spec, checkpoint=checkpoint, **options)
    return ended.result, [message.text for message in said if isinstance(message, Notice)]


def interrupted(spec: RunSpec, checkpoint: Path, **options: Any) -> None:
    """Trains one epoch, whose state is then in the checkpoint."""
    messages = training(spec, checkpoint=checkpoint, **options)
    next(messages)
    messages.close()


def spec(**overrides: Any) -> RunSpec:
    return tiny_spec(STRATEGY, "left@0.4", epochs=3, **overrides)


@pytest.fixture(scope="module")
def whole() -> RunRecord:
    record, said = finished(spec())
    assert (record.info["status"], said) == (DONE, [])
    return record


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The tree of a checkpoint after the first epoch."""
    path = tmp_path_factory.mktemp("state") / "checkpoint.safetensors"
    interrupted(spec(), path)
    return load_tree(path)


def same_bits(record: RunRecord, expected: RunRecord) -> bool:
    """True of two runs with one history and one set of instance parameters."""
    one, other = record.instance_parameters, expected.instance_parameters
    return (
        record.info["status"] == DONE
        and record.history == expected.history
        and all(np.array_equal(one[name], other[name]) for name in other)
    )


def test_a_run_goes_on_from_its_checkpoint_to_the_same_bits(
    whole: RunRecord, tmp_path: Path
) -> None:
    interrupted(spec(), tmp_path / "checkpoint")
    record, said = finished(spec(), tmp_path / "checkpoint")
    assert said == []
    assert same_bits(record, whole)


# --- files that are damaged ---


def flip(place: float) -> Callable[[bytes], bytes]:
    """One bit flipped at a share of the file's length."""

    def damage(content: bytes) -> bytes:
        changed = bytearray(content)
        changed[int(place * len(changed))] ^= 4
        return bytes(changed)

    return damage


FILES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "cut short": lambda content: content[: len(content) // 2],
    "one byte short": lambda content: content[:-1],
    "longer": lambda content: content + b"\0" * 64,
    "text": lambda content: b"epoch 1",
    "zeros": lambda content: bytes(len(content)),
    **{f"a bit at {place}": flip(place) for place in (0.0, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.999)},
}


@pytest.mark.parametrize("damage", FILES)
def test_a_damaged_file_lets_the_run_begin_anew(
    damage: str, whole: RunRecord, tmp_path: Path
) -> None:
    path = tmp_path / "checkpoint.safetensors"
    interrupted(spec(), path)
    path.write_bytes(FILES[damage](path.read_bytes()))
    record, said = finished(spec(), path)
    assert len(said) == 1
    assert said[0].startswith("begins anew: ")
    assert "\n" not in said[0]
    assert same_bits(record, whole)


# --- states that are not this run's ---


def other_run(**overrides: Any) -> Callable[[Any], Any]:
    """The state of another run, which was trained for as long."""

    def replace(state: Any) -> Any:
        run = Run(spec(**overrides))
        run.start()
        run.train_epoch()
        return run.state()

    return replace


def changed(change: Callable[[Any], object]) -> Callable[[Any], Any]:
    def replace(state: Any) -> Any:
        copied = copy.deepcopy(state)
        change(copied)
        return copied

    return replace


def without(*keys: Any) -> Callable[[Any], Any]:
    def remove(state: Any) -> None:
        for key in keys[:-1]:
            state = state[key]
        del state[keys[-1]]

    return changed(remove)


def put(value: Any, *keys: Any) -> Callable[[Any], Any]:
    def replace(state: Any) -> None:
        for key in keys[:-1]:
            state = state[key]
        state[keys[-1]] = value(state[keys[-1]]) if callable(value) else value

    return changed(replace)


def wider(tensor: torch.Tensor) -> torch.Tensor:
    return torch.cat([tensor, tensor])


def widen_a_layer(state: Any) -> None:
    name, values = next(iter(state["model"].items()))
    state["model"][name] = wider(values)


def first_moment(state: Any) -> dict[str, Any]:
    return next(iter(state["optimizer"]["state"].values()))


STATES: dict[str, Callable[[Any], Any]] = {
    "another seed": other_run(seed=1),
    "another spec": other_run(batch_size=32),
    "another version": put("0.0.1", "identity", "mtlbench"),
    "another PyTorch": put("1.0", "identity", "torch"),
    "another device": put("cuda", "identity", "device"),
    "traces": put(True, "identity", "traces"),
    "no identity": without("identity"),
    "no model": without("model"),
    "no optimizer": without("optimizer"),
    "no strategy": without("strategy"),
    "no history": without("history"),
    "no epoch": without("epoch"),
    "epoch 1000": put(1000, "epoch"),
    "epoch 2": put(2, "epoch"),
    "epoch -1": put(-1, "epoch"),
    "an epoch in words": put("one", "epoch"),
    "a longer history": put(lambda h: {k: v * 2 for k, v in h.items()}, "history"),
    "a status of its own": put("fine", "status"),
    "something more": put(1, "more"),
    "no weight of a layer": changed(lambda s: s["model"].popitem()),
    "a wider layer": changed(widen_a_layer),
    "moments of another shape": changed(lambda s: first_moment(s).update(exp_avg=torch.zeros(1))),
    "no second moments": changed(lambda s: first_moment(s).pop("exp_avg_sq")),
    "no moments of a layer": changed(lambda s: s["optimizer"]["state"].popitem()),
    "moments of another optimiser": changed(
        lambda s: s["optimizer"].update(
            state={k: {"momentum_buffer": v["exp_avg"]} for k, v in s["optimizer"]["state"].items()}
        )
    ),
    "another optimiser": changed(lambda s: s["optimizer"]["param_groups"][0].pop("betas")),
    "more groups": changed(
        lambda s: s["optimizer"]["param_groups"].append(s["optimizer"]["param_groups"][0])
    ),
    "no table of instances": without("strategy", "instance.table.values"),
    "a table of other instances": put(wider, "strategy", "instance.table.values"),
    "instance parameters of no epoch": put(list, "log_variances"),
    "nothing": lambda state: None,
    "a list": lambda state: [state],
}


@pytest.mark.parametrize("kind", STATES)
def test_a_state_that_is_not_this_runs_lets_it_begin_anew(
    kind: str, state: Any, whole: RunRecord, tmp_path: Path
) -> None:
    path = tmp_path / "checkpoint.safetensors"
    if kind == "instance parameters of no epoch":
        replaced = changed(lambda s: s.update(log_variances=[]))(state)
    else:
        replaced = STATES[kind](state)
    save_tree(path, replaced)
    record, said = finished(spec(), path)
    assert len(said) == 1
    assert said[0].startswith("begins anew: ")
    assert "\n" not in said[0]
    assert same_bits(record, whole)


def test_a_run_that_is_to_keep_traces_does_not_go_on_from_one_that_keeps_none(
    tmp_path: Path,
) -> None:
    interrupted(spec(), tmp_path / "checkpoint")
    record, said = finished(spec(), tmp_path / "checkpoint", keep_traces=True)
    assert len(said) == 1
    assert record.traces["loss"].shape[0] == 3


def test_a_state_that_cannot_be_saved_is_told_and_the_run_goes_on(
    whole: RunRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, tree: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(loop, "save_tree", full)
    record, said = finished(spec(), tmp_path / "checkpoint")
    assert len(said) == 3
    full = "cannot save its state: OSError: [Errno 28] No space left on device"
    assert all(each.startswith(full) for each in said)
    assert same_bits(record, whole)


def test_a_fold_does_not_go_on_from_the_state_of_another(tmp_path: Path) -> None:
    first, second = cross_validations([tiny_spec("equal", "left@0.4", epochs=2)])[:2]
    messages = first.train(Place(), tmp_path / "checkpoint")
    next(messages)
    messages.close()
    said, *_, ended = second.train(Place(), tmp_path / "checkpoint")
    assert isinstance(said, Notice)
    assert said.text.startswith("begins anew: ")
    *_, expected = second.train(Place(), None)
    assert ended.result == expected.result


def test_a_folder_in_place_of_a_checkpoint_lets_the_run_begin_anew(
    whole: RunRecord, tmp_path: Path
) -> None:
    (tmp_path / "checkpoint" / "inside").mkdir(parents=True)
    record, said = finished(spec(), tmp_path / "checkpoint")
    assert len(said) == 1
    assert same_bits(record, whole)
