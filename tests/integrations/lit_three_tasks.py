"""Three tasks in PyTorch Lightning; as a script, two processes train them.

python lit_three_tasks.py FILE OPTIONS STRATEGY…
"""

import json
import logging
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import lightning as L  # noqa: N812, as everywhere
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from mtlbench.integrations.lightning import TaskWeighting, strategy_of

TASKS = {"a": "classification", "b": "regression", "c": "regression"}
INSTANCES, BATCH = 24, 8

Batch = dict[str, Tensor]


class Rows(Dataset[Batch]):
    """Inputs [N, 5], labels of three tasks, numbers of the instances."""

    def __init__(self) -> None:
        chance = torch.Generator().manual_seed(0)
        self.inputs = torch.randn(INSTANCES, 5, generator=chance, dtype=torch.float64)
        self.a = torch.randint(3, (INSTANCES,), generator=chance)
        self.b, self.c = torch.randn(2, INSTANCES, generator=chance, dtype=torch.float64)

    def __len__(self) -> int:
        return INSTANCES

    def __getitem__(self, n: int) -> Batch:
        row = {"inputs": self.inputs[n], "a": self.a[n], "b": self.b[n], "c": self.c[n]}
        return {**row, "index": torch.tensor(n)}


def loader(batch: int = BATCH, rank: int | None = None) -> DataLoader[Batch]:
    """All rows in their order, or the half of each batch that is one of two processes'."""
    rows = Rows()
    sampler = None if rank is None else DistributedSampler(rows, 2, rank, shuffle=False)
    return DataLoader(rows, batch, sampler=sampler)


class LitNet(L.LightningModule):
    """A trunk and three heads."""

    def __init__(self, manual: bool = False, unused: bool = False) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.trunk = nn.Sequential(nn.Linear(5, 7), nn.Tanh())
            sizes = {"a": 3, "b": 1, "c": 1}
            self.heads = nn.ModuleDict({task: nn.Linear(7, n) for task, n in sizes.items()})
            if unused:
                self.unused = nn.Linear(1, 1)
        self.automatic_optimization = not manual
        self.double()

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        seen = self.trunk(batch["inputs"].to(self.dtype))
        losses = {
            "a": functional.cross_entropy(self.heads["a"](seen), batch["a"], reduction="none")
        }
        for task, factor in (("b", 1), ("c", 9)):
            error = self.heads[task](seen)[:, 0] - batch[task].to(self.dtype)
            losses[task] = 0.1 + factor * error.square()
        return losses

    def training_step(self, batch: Batch, batch_idx: int) -> Any:
        loss = strategy_of(self).loss(self.losses(batch), batch["index"])
        if self.automatic_optimization:
            return loss
        optimizers = self.optimizers()
        for optimizer in optimizers:
            optimizer.zero_grad()
        self.manual_backward(loss)
        for optimizer in optimizers:
            optimizer.step()
        return None

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        right = self.heads["a"](self.trunk(batch["inputs"].to(self.dtype))).argmax(1) == batch["a"]
        self.log("val/a/accuracy", 100 * right.double().mean(), sync_dist=True)

    def configure_optimizers(self) -> Any:
        if self.automatic_optimization:
            return torch.optim.SGD(self.parameters(), lr=0.05)
        halves = (self.trunk.parameters(), self.heads.parameters())
        return [torch.optim.SGD(half, lr=0.05) for half in halves]


class Logged(L.Callback):
    """Keeps what is logged at the end of each epoch."""

    def __init__(self) -> None:
        self.epochs: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.epochs.append({k: float(v) for k, v in trainer.callback_metrics.items()})


def weighting(name: str, **options: Any) -> TaskWeighting:
    return TaskWeighting(name, tasks=TASKS, num_instances=INSTANCES, dtype=torch.float64, **options)


def quiet_trainer(directory: Path, **options: Any) -> L.Trainer:
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    settings: dict[str, Any] = {
        "max_epochs": 3,
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "default_root_dir": directory,
        "num_sanity_val_steps": 0,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return L.Trainer(**settings | options)


def parameters_of(net: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in net.parameters()]


def fit(
    net: L.LightningModule,
    directory: Path,
    *callbacks: L.Callback,
    batch: int = BATCH,
    rank: int | None = None,
    ckpt_path: Path | None = None,
    **options: Any,
) -> L.Trainer:
    """Trains quietly."""
    trainer = quiet_trainer(directory, callbacks=list(callbacks), **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(net, loader(batch, rank), loader(), ckpt_path=ckpt_path)
    return trainer


def main() -> None:
    """Trains each strategy by two processes, and leaves what the first one has in a file."""
    file, options, *names = sys.argv[1:]
    torch.set_num_threads(1)
    rank = int(os.environ.get("LOCAL_RANK", 0))
    settings: dict[str, Any] = {
        "devices": 2,
        "batch": BATCH // 2,
        "rank": rank,
        "use_distributed_sampler": False,
        **json.loads(options),
    }
    unused = "unused" in settings["strategy"]
    results = {}
    for name in names:
        net, logged = LitNet(name.endswith(" by hand"), unused), Logged()
        of_tasks = weighting(name.removesuffix(" by hand"))
        fit(net, Path(file).parent, of_tasks, logged, **settings)
        results[name] = {"network": parameters_of(net.trunk), "logged": logged.epochs}
    torch.save(results, f"{file}.{rank}")


if __name__ == "__main__":
    main()
