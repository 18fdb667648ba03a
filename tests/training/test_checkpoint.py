"""A tree of state comes back as it went, or not at all."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from mtlbench.training.checkpoint import load_tree, save_tree

leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
trees = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text() | st.integers(), inner, max_size=3)
    ),
    max_leaves=10,
)


@settings(max_examples=30)
@given(tree=trees)
def test_numbers_text_and_containers_come_back_equal_and_of_their_type(
    tmp_path_factory: pytest.TempPathFactory, tree: Any
) -> None:
    path = tmp_path_factory.mktemp("tree") / "tree.safetensors"
    save_tree(path, tree)
    assert repr(load_tree(path)) == repr(tree)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.tensor([1.5, -0.0, float("inf"), float("nan")]),
        torch.tensor(3.0, dtype=torch.float64),
        torch.tensor([1.0, 2.0]).bfloat16(),
        torch.tensor([0.5]).half(),
        torch.tensor([True, False]),
        torch.tensor([0, 255], dtype=torch.uint8),
        torch.tensor([2**62]),
        torch.zeros(0, 3),
        torch.arange(6).view(2, 3).T,
        torch.Generator().manual_seed(5).get_state(),
    ],
    ids=str,
)
def test_a_tensor_comes_back_bit_for_bit(tensor: torch.Tensor, tmp_path: Path) -> None:
    save_tree(tmp_path / "tensor.safetensors", {"tensor": tensor})
    restored = load_tree(tmp_path / "tensor.safetensors")["tensor"]
    torch.testing.assert_close(restored, tensor, rtol=0, atol=0, equal_nan=True)
    if tensor.is_floating_point():
        assert torch.equal(restored.signbit(), tensor.signbit())


def test_a_number_that_is_not_a_number_comes_back(tmp_path: Path) -> None:
    save_tree(tmp_path / "nan.safetensors", [math.nan, math.inf, -math.inf])
    nan, *infinities = load_tree(tmp_path / "nan.safetensors")
    assert math.isnan(nan)
    assert infinities == [math.inf, -math.inf]


def test_two_places_of_one_tensor_come_back_apart(tmp_path: Path) -> None:
    tensor = torch.ones(3)
    save_tree(tmp_path / "shared.safetensors", [tensor, tensor])
    one, other = load_tree(tmp_path / "shared.safetensors")
    one.zero_()
    assert torch.equal(other, tensor)


def test_an_optimizer_goes_on_from_its_saved_state(tmp_path: Path) -> None:
    def learn(optimizer: torch.optim.Optimizer, steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            optimizer.param_groups[0]["params"][0].square().sum().backward()
            optimizer.step()

    parameter = torch.ones(3, requires_grad=True)
    optimizer = torch.optim.Adam([parameter], lr=0.1)
    learn(optimizer, 3)
    save_tree(tmp_path / "adam.safetensors", optimizer.state_dict())
    other = parameter.detach().clone().requires_grad_()
    restored = torch.optim.Adam([other], lr=0.5)
    restored.load_state_dict(load_tree(tmp_path / "adam.safetensors"))
    learn(optimizer, 3)
    learn(restored, 3)
    assert torch.equal(other, parameter)


def test_what_cannot_be_saved_is_named_and_the_old_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    save_tree(path, {"epoch": 1})
    with pytest.raises(TypeError, match="state of type set cannot be saved"):
        save_tree(path, {"epoch": {2}})
    assert load_tree(path) == {"epoch": 1}


def test_a_save_that_is_cut_off_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_off(tensors: object, path: Path, metadata: object) -> None:
        path.write_bytes(b"half")
        raise OSError("no space left on device")

    path = tmp_path / "state.safetensors"
    save_tree(path, {"epoch": 1})
    monkeypatch.setattr("mtlbench.training.checkpoint.save_file", cut_off)
    with pytest.raises(OSError, match="no space left"):
        save_tree(path, {"epoch": 2})
    assert load_tree(path) == {"epoch": 1}


def test_saving_makes_the_directory_and_leaves_nothing_else_in_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "state.safetensors"
    for epoch in (1, 2):
        save_tree(path, {"epoch": epoch})
    assert list(path.parent.iterdir()) == [path]
    assert load_tree(path) == {"epoch": 2}


@pytest.mark.parametrize("length", [0, 7, 40, -1])
def test_a_file_cut_short_is_named_as_unreadable(length: int, tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    save_tree(path, {"tensor": torch.ones(10)})
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ValueError, match=r"state\.safetensors cannot be read"):
        load_tree(path)


def test_a_file_without_a_tree_is_named_as_unreadable(tmp_path: Path) -> None:
    save_file({"tensor": torch.ones(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"other\.safetensors cannot be read"):
        load_tree(tmp_path / "other.safetensors")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"absent\.safetensors cannot be read"):
        load_tree(tmp_path / "absent.safetensors")


def test_a_tensor_comes_back_in_its_memory_layout(tmp_path: Path) -> None:
    state = torch.arange(48.0).view(2, 3, 2, 4).contiguous(memory_format=torch.channels_last)
    save_tree(tmp_path / "state", {"images": state, "plain": torch.ones(2, 3, 2, 4)})
    restored = load_tree(tmp_path / "state")
    assert torch.equal(restored["images"], state)
    assert restored["images"].stride() == state.stride()
    assert restored["plain"].is_contiguous()
