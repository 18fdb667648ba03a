"""Strategies in the Trainer of Hugging Face: `pip install mtlbench[transformers]`."""

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Trainer, TrainerCallback

from mtlbench.integrations import BEGINS_ANEW, logged
from mtlbench.strategies.strategy import Strategy

STATE = "strategy.pt"
"""The file of the strategy's state in a checkpoint."""


class MultiTaskTrainer(Trainer):
    """A `Trainer` with a strategy: `compute_loss` returns `self.strategy.loss(losses, index)`.

    The strategy's state lies in each checkpoint, and a training that is resumed goes on with it. It
    is told of the end of each epoch, with what an evaluation of that epoch gave: the metrics that
    `compute_metrics` calls `TASK/METRIC`. The mean weight of each task is logged as `weight/TASK`
    when the next epoch begins, or training ends.

    Args:
        arguments, options: as for `Trainer`. `remove_unused_columns=False` of the training
            arguments lets the numbers of the instances through.
        strategy: of `build_strategy`, on the device of the training arguments, which are made
            before it: so the processes have found each other.

    Raises:
        ValueError: the network is cut in parts that lie on several devices (FSDP, DeepSpeed); in
            training, `compute_loss` asks for a column that the arguments do not let through.
    """

    loss_is_scaled_for_ga = False

    def __init__(self, *arguments: Any, strategy: Strategy, **options: Any) -> None:
        super().__init__(*arguments, **options)
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            raise ValueError(
                "MultiTaskTrainer needs the whole network on each device: leave FSDP and DeepSpeed "
                "out"
            )
        self.strategy = strategy
        self.epochs = _Epochs(self)
        # First, so that at the end of training trackers still take the weights.
        self.callback_handler.callbacks.insert(0, self.epochs)

    def training_step(self, model: nn.Module, inputs: dict[str, Any], *rest: Any) -> Tensor:
        try:
            return super().training_step(model, inputs, *rest)
        except KeyError as error:
            if self.args.remove_unused_columns and error.args[0] not in inputs:
                raise ValueError(
                    f"the batch has no {error}, unless the model itself takes it: let all columns "
                    "through with TrainingArguments(remove_unused_columns=False)"
                ) from error
            raise

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        if self.args.should_save:
            state = {"strategy": dict(self.strategy.state_dict()), "epoch": self.epochs.state()}
            torch.save(state, Path(output_dir) / STATE)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is None:
            return
        if (file := Path(checkpoint) / STATE).is_file():
            state = torch.load(file, map_location="cpu", weights_only=True)
            self.strategy.load_state_dict(state["strategy"])
            self.epochs.load(state["epoch"])
        else:
            warnings.warn(f"{file}: {BEGINS_ANEW}", stacklevel=2)


class _Epochs(TrainerCallback):
    """Ends epochs of the strategy when the next one begins: evaluations come after an epoch's end.

    Args:
        trainer: whose strategy it is.
    """

    def __init__(self, trainer: MultiTaskTrainer) -> None:
        self.trainer = trainer
        self.begun = False
        self.metrics: dict[str, float] = {}

    def state(self) -> dict[str, Any]:
        return {"begun": self.begun, "metrics": self.metrics}

    def load(self, state: dict[str, Any]) -> None:
        self.begun, self.metrics = state["begun"], state["metrics"]

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.begun = True

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: dict[str, float], **_: Any
    ) -> None:
        if self.trainer.is_in_train:
            self.metrics = {
                name.removeprefix("eval_"): float(value)
                for name, value in metrics.items()
                if "/" in name
            }

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.epoch % 1 == 0:  # else it is resumed in the middle
            self.end_epoch()

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.end_epoch()

    def end_epoch(self) -> None:
        if not self.begun:
            return
        strategy = self.trainer.strategy
        summary = strategy.end_epoch(self.metrics)
        self.begun, self.metrics = False, {}
        if logs := logged(summary, strategy.setting.tasks):
            self.trainer.log(logs)
