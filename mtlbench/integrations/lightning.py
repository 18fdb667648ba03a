"""Strategies in PyTorch Lightning: `pip install mtlbench[lightning]`."""

import weakref
from collections.abc import Mapping, Sequence
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import DDPStrategy, DeepSpeedStrategy, SingleDeviceStrategy
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import nn

from mtlbench.integrations import BEGINS_ANEW, logged
from mtlbench.strategies.compose import Composition, build_strategy
from mtlbench.strategies.strategy import Strategy


class TaskWeighting(Callback):
    """Gives the module a strategy, and looks after it.

    It is built when `fit` begins, on the module's device and after the processes have found each
    other; `strategy_of(self).loss(losses, index)` in `training_step` is all that the module does.
    The strategy's state lies in the checkpoint beside the module, not in it: the module can be
    loaded without, `configure_optimizers` and averages of weights do not meet it. After each epoch
    it is told so, and the mean weight of each task is logged as `weight/TASK`.

    Examples:
        >>> tasks = {"digit": "classification", "height": "regression"}
        >>> weighting = TaskWeighting("ilt+pcgrad", tasks=tasks, num_instances=600)
        >>> trainer = Trainer(callbacks=[weighting])

    Args:
        strategy: `ilt`, `pcgrad`, `ilt+pcgrad` …
        tasks: task name to kind, `classification` or `regression`.
        num_instances: number of training instances; needed by instance stages such as `ilt`.
        parameters: `STAGE.PARAMETER` to value.
        shared: names of submodules that the tasks share, where gradient weightings are not to find
            them in the graph.
        representation: name of the submodule whose output all heads see, where it is needed.
        validation: what the names of validation metrics begin with: `val/digit/accuracy` is told
            to the strategy as the accuracy of the task `digit`.
        options: the rest as for `build_strategy`: `dtype`, `generator`, `instance_tables`.

    Attributes:
        strategy: the strategy itself, from the beginning of `fit` on.

    Raises:
        UserError: an unknown strategy or parameter.
        ValueError: the network is cut in parts that lie on several devices (FSDP, DeepSpeed), or
            has no submodule of such a name.
    """

    strategy: Strategy | None = None

    def __init__(
        self,
        strategy: str,
        *,
        tasks: Mapping[str, str],
        num_instances: int = 0,
        parameters: Mapping[str, Any] | None = None,
        shared: Sequence[str] = (),
        representation: str | None = None,
        validation: str = "val/",
        **options: Any,
    ) -> None:
        Composition.parse(strategy).resolve(parameters or {})
        self._name, self._tasks = strategy, tasks
        self._shared, self._representation = shared, representation
        self._options = {"num_instances": num_instances, "parameters": parameters, **options}
        self._prefix = validation
        self._metrics: dict[str, float] = {}
        self._epoch: int | None = None
        self._module: weakref.ref[nn.Module] | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        _of_modules[pl_module] = self
        if self._module is not None and self._module() is pl_module:
            return
        devices: Any = trainer.strategy
        if isinstance(devices, DeepSpeedStrategy) or not isinstance(
            devices, SingleDeviceStrategy | DDPStrategy
        ):
            raise ValueError(
                "TaskWeighting needs the whole network on each device: Trainer(strategy='ddp') or "
                f"one device, but not {type(devices).__name__}"
            )
        self._module, self._device = weakref.ref(pl_module), devices.root_device
        self.strategy, self._epoch, self._metrics = None, None, {}

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        _of_modules.pop(pl_module, None)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.built()

    def built(self) -> Strategy:
        """The strategy, made when it is first asked for: a module may make its layers in `setup` or
        `configure_model`, after `setup` of its callbacks.

        Raises:
            ValueError: `fit` has not begun, or the module has no submodule of such a name.
        """
        if self.strategy is None:
            module = None if self._module is None else self._module()
            if module is None:
                raise ValueError("the strategy is built when Trainer.fit begins, not before")
            whole = self._representation
            self.strategy = build_strategy(
                self._name,
                tasks=self._tasks,
                model=module,
                shared=[_submodule(module, name) for name in self._shared] or None,
                representation=None if whole is None else _submodule(module, whole),
                device=self._device,
                **self._options,
            )
        return self.strategy

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self._epoch not in (None, trainer.current_epoch):
            self._end_epoch(
                pl_module
            )  # resumed from a checkpoint of the last validation of an epoch
        self._epoch = trainer.current_epoch

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self._metrics = {
                name.removeprefix(self._prefix): float(value)
                for name, value in trainer.callback_metrics.items()
                if name.startswith(self._prefix)
            }

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._epoch is not None:
            self._end_epoch(pl_module)

    def _end_epoch(self, module: LightningModule) -> None:
        summary = self.built().end_epoch(self._metrics)
        self._epoch, self._metrics = None, {}
        values = logged(summary, self._tasks)
        # The same on every rank; Lightning warns of what is not brought together.
        module.log_dict(values, on_step=False, on_epoch=True, batch_size=1, sync_dist=True)

    def state_dict(self) -> dict[str, Any]:
        if self._module is None:
            return {}
        state = dict(self.built().state_dict())
        return {"strategy": state, "epoch": self._epoch, "metrics": self._metrics}

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if self._module is not None and not checkpoint["callbacks"].get(self.state_key):
            rank_zero_warn(BEGINS_ANEW)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if self._module is not None and state_dict:
            self.built().load_state_dict(state_dict["strategy"])
            self._epoch, self._metrics = state_dict["epoch"], state_dict["metrics"]


_of_modules: weakref.WeakKeyDictionary[nn.Module, TaskWeighting] = weakref.WeakKeyDictionary()
"""Who looks after the strategy of a module that is being fitted."""


def _submodule(module: nn.Module, name: str) -> nn.Module:
    try:
        return module.get_submodule(name)
    except AttributeError:
        known = ", ".join(path for path, _ in module.named_children())
        raise ValueError(f"the module has no submodule {name!r}; it has {known}") from None


def strategy_of(module: LightningModule) -> Strategy:
    """The strategy of a module's training.

    Raises:
        ValueError: the trainer has no `TaskWeighting`, or `fit` has not begun.
    """
    found = getattr(module.trainer, "callbacks")  # noqa: B009, not in Lightning's types
    # A search for a learning rate or a batch size takes the callbacks away.
    for callback in (*found, _of_modules.get(module)):
        if isinstance(callback, TaskWeighting):
            return callback.built()
    raise ValueError("the module needs a strategy: Trainer(callbacks=[TaskWeighting(...)])")
