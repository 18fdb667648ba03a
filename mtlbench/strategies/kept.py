"""Tensors that a stage keeps and saves, beside its parameters and buffers."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


class KeptTensor(nn.Module):
    """A tensor that is saved with a module and is none of its `buffers()`.

    Those of two copies of a module are paired up, and gone through in every step, by whoever
    averages weights (`torch.optim.swa_utils.AveragedModel`). A tensor that is large, or has its
    shape from the first batch, is not for that.

    Args:
        values: the tensor at first.
    """

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.values = values

    def take_shape(self, saved: Tensor) -> None:
        """Called before a saved tensor is loaded."""

    def _save_to_state_dict(
        self, destination: dict[str, Any], prefix: str, keep_vars: bool
    ) -> None:
        destination[prefix + "values"] = self.values

    def _load_from_state_dict(
        self,
        state_dict: Mapping[str, Any],
        prefix: str,
        local_metadata: Mapping[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        key = prefix + "values"
        if key not in state_dict:
            missing_keys.append(key)
            return
        saved = state_dict[key]
        self.take_shape(saved)
        if saved.shape == self.values.shape:
            self.values.copy_(saved)
        else:
            shapes = f"{list(saved.shape)} and not {list(self.values.shape)}"
            error_msgs.append(f"size mismatch for {key}: it was saved as {shapes}")

    def _apply(self, fn: Any, recurse: bool = True) -> "KeptTensor":
        self.values = fn(self.values)
        return self


class LateTensor(KeptTensor):
    """A tensor whose last axis has its length, 0 at first, from the first batch or what is
    loaded."""

    @torch.inference_mode(False)
    def take_shape(self, saved: Tensor) -> None:
        if saved.shape[:-1] == self.values.shape[:-1]:
            self.values = self.values.new_zeros(saved.shape)
