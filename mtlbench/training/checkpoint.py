"""Saves and restores a tree of state as one safetensors file.

Tensors are stored as they are and come back in the same memory layout; the tree around them
(dicts, lists, numbers, text) goes into the file's metadata as JSON, beside a SHA-256 of all of it.
Reading it runs no code.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from mtlbench.files import replacing

_TENSOR, _CHANNELS_LAST, _DICT, _TUPLE = "tensor", "channels last", "dict", "tuple"


def save_tree(path: Path, tree: Any) -> None:
    """Writes the tree; a kill leaves the old file.

    Raises:
        OSError: it cannot be written, on a full disk for example.
    """
    tensors: dict[str, torch.Tensor] = {}
    skeleton = json.dumps(_flatten(tree, tensors))
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as aside:
        metadata = {"tree": skeleton, "sha256": _digest(skeleton, tensors)}
        try:
            save_file(tensors, aside, metadata=metadata)
        except SafetensorError as error:  # which is no OSError
            raise OSError(str(error)) from error


def load_tree(path: Path) -> Any:
    """Reads back what `save_tree` wrote, with tensors on the CPU.

    Raises:
        ValueError: the file is damaged.
    """
    try:
        if not path.is_file():  # a pipe would be waited for
            raise ValueError("it is not a file")
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
        if _digest(metadata["tree"], tensors) != metadata["sha256"]:
            raise ValueError("its content was altered")
        return _restore(json.loads(metadata["tree"]), tensors.__getitem__)
    except Exception as error:
        raise ValueError(f"checkpoint {path} cannot be read: {error}") from error


def _digest(skeleton: str, tensors: Mapping[str, torch.Tensor]) -> str:
    digest = hashlib.sha256(skeleton.encode())
    for key in sorted(tensors):
        tensor = tensors[key]
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _flatten(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(value, torch.Tensor):
        key = str(len(tensors))
        tensors[key] = value.detach().cpu().contiguous().clone()
        # The layout is part of the state: fused optimisers pair up memory, not indices.
        return {_TENSOR if value.is_contiguous() else _layout(value): key}
    if isinstance(value, dict):
        return {_DICT: [[key, _flatten(item, tensors)] for key, item in value.items()]}
    if isinstance(value, tuple):
        return {_TUPLE: [_flatten(item, tensors) for item in value]}
    if isinstance(value, list):
        return [_flatten(item, tensors) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"state of type {type(value).__name__} cannot be saved")


def _layout(value: torch.Tensor) -> str:
    four = value.ndim == 4
    last = four and value.is_contiguous(memory_format=torch.channels_last)
    return _CHANNELS_LAST if last else _TENSOR


def _restore(value: Any, tensor: Any) -> Any:
    if isinstance(value, list):
        return [_restore(item, tensor) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == _TENSOR:
        return tensor(content)
    if kind == _CHANNELS_LAST:
        return tensor(content).contiguous(memory_format=torch.channels_last)
    if kind == _TUPLE:
        return tuple(_restore(item, tensor) for item in content)
    return {key: _restore(item, tensor) for key, item in content}


# --- optimisers ---------------------------------------------------------------------------------
