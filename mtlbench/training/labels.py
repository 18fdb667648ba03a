"""The data of a run on its device, and the training labels of its variant."""

import functools
import hashlib
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from mtlbench.data.corruption import corrupt
from mtlbench.data.reading import Items
from mtlbench.data.rows import to_device
from mtlbench.data.splits import Data, Split, each_input, input_parts
from mtlbench.data.variants import Variant
from mtlbench.errors import UserError
from mtlbench.randomness import named_generator
from mtlbench.suites.base import Suite

RESIDENT_SHARE = 0.5
"""Share of a GPU's free memory that a suite's data may take; if it is more, it stays in files."""

NAMED_BY = 64
"""About so many instances of a split."""


@functools.lru_cache(maxsize=2)
def resident_data(suite: Suite, device: torch.device) -> Data:
    """The suite's data, as tensors on the device where it fits, kept from run to run."""
    given: object = suite.data()
    if not isinstance(given, Data):
        raise UserError(f"data() gives a {type(given).__name__}, and no mtlbench.Data")
    data = given.checked(suite.tasks())
    files = sum(
        values.nbytes
        for split in data.splits
        for values in (*input_parts(split.inputs), *split.targets.values())
        if not isinstance(values, Tensor | Items)
    )
    # Files are read by the batch on a CPU, whose page cache all workers share.
    stay = device.type == "cpu" or files > RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]

    def move(values: Any) -> Any:
        if isinstance(values, Items):
            return values
        return values if stay and not isinstance(values, Tensor) else to_device(values, device)

    return Data(
        *(
            Split(
                each_input(split.inputs, move),
                {name: move(target) for name, target in split.targets.items()},
                None if split.present is None else split.present.to(device),
                split.names,
            )
            for split in data.splits
        )
    )


@functools.lru_cache(maxsize=2)
def fingerprint(suite: Suite, device: torch.device) -> str:
    """Names the data of a suite: all labels, and the inputs of a few instances of each split.

    No part of what a run is: a run is refused where it is not that of its study, and trained anew
    where it has become another one. Of what lies in files a few instances count.
    """
    digest = hashlib.sha256()
    for split in resident_data(suite, device).splits:
        if split.present is not None:
            digest.update(split.present.cpu().numpy().tobytes())
        few = torch.arange(0, len(split), max(1, len(split) // NAMED_BY))
        labels = [
            (name, target if isinstance(target, Tensor) else target[few])
            for name, target in split.targets.items()
        ]
        inputs = [
            (name, part[few.to(device) if isinstance(part, Tensor) else few])
            for name, part in enumerate(input_parts(split.inputs))
            if not isinstance(part, Items)  # reading one may take long, and be drawn
        ]
        for name, values in (*labels, *inputs):
            array = values.detach().cpu().contiguous()
            digest.update(f"{name} {array.dtype} {tuple(array.shape)}".encode())
            digest.update(array.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:12]


def training_labels(
    suite: Suite, name: str, variant: Variant, data: Data, device: torch.device
) -> tuple[Split, Tensor]:
    """The training split with this variant's labels, and the corrupted mask [N, K]."""
    clean = {
        task: target.cpu() if isinstance(target, Tensor) else target
        for task, target in data.train.targets.items()
    }
    present = data.train.present
    given, mask = corrupt(
        variant,
        suite.tasks(),
        clean,
        names=(name, suite.corruption_seed),
        present=None if present is None else present.cpu(),
    )
    if suite.missing_labels:
        chance = named_generator("missing labels", name, suite.corruption_seed)
        kept = torch.rand(mask.shape, generator=chance) >= suite.missing_labels
        present = kept.to(device) if present is None else present & kept.to(device)
    if present is not None:
        mask &= present.cpu()
    targets = {
        task: target.to(device) if isinstance(target, Tensor) else target
        for task, target in given.items()
    }
    return replace(data.train, targets=targets, present=present), mask
