"""CityScapes, the real dataset."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import nn

from mtlbench.data.prepared import PreparedSplit, open_prepared
from mtlbench.data.rows import RowSubset
from mtlbench.data.splits import Data, Split
from mtlbench.data.variants import Variant
from mtlbench.models.hrnet import HRNet
from mtlbench.randomness import named_generator
from mtlbench.suites.base import LOCATION, register_suite
from mtlbench.suites.scenes import CLASSES
from mtlbench.suites.scenes.suite import StreetSuite

WIDTHS = (18, 32, 48)

HELD_OUT = 0.1
"""Share of the published training images that hyper-parameters are chosen on."""


@register_suite("cityscapes", label="CityScapes")
@dataclass(frozen=True, kw_only=True)
class CityScapes(StreetSuite):
    """CityScapes at 128×256 with 7 categories and inverse depth, and an HRNetV2 (Vasu et al. 2021,
    §4.2), from a directory that `mtlbench prepare cityscapes` has written.

    Labels of the published test images are not public: tests are on the 500 published validation
    images; a tenth of the training images, drawn at random, is held out for validation.

    Inverse depth is in the unit of the arrays that MTAN's authors published, the raw 16-bit
    disparity over 65,535, whichever files it was prepared from. Noise on it is the paper's,
    uniform in [0, 0.2].

    The paper names neither optimiser nor schedule. As in the works whose set-up it takes (MTAN,
    Liu et al. 2019): Adam at 1e-4, batches of 8, 200 epochs. Different from them: half a cosine
    instead of one step, as in all suites here, and mirroring as the only augmentation. Pretrained
    weights are not used, since nothing is downloaded. docs/paper.md has the rest.

    Attributes:
        prepared: the prepared dataset.
        width: of HRNetV2: 18, 32 or 48, the paper's.
        compiled: whether to compile the network, which takes minutes.
    """

    graphed: ClassVar[bool] = True

    epochs: int = 200
    batch_size: int = 8
    lr: float = 1e-4
    width: int = 48
    compiled: bool = False  # type: ignore[misc]
    prepared: str = field(default="prepared/cityscapes", metadata=LOCATION)

    depth_unit: ClassVar[str] = "inverse depth"
    depth_noise: ClassVar[tuple[float, float] | None] = (0.0, 0.2)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width not in WIDTHS:
            raise ValueError(f"width must be {' or '.join(map(str, WIDTHS))}, but is {self.width}")

    def check(self) -> None:
        open_prepared(self.prepared, "cityscapes")

    def data(self) -> Data:
        prepared = open_prepared(self.prepared, "cityscapes")
        train, test = prepared.split("train"), prepared.split("val")
        order = torch.randperm(train.rows, generator=named_generator("cityscapes", "held out"))
        held_out = max(1, round(HELD_OUT * train.rows))
        return Data(
            _split(train, order[held_out:].sort().values),
            _split(train, order[:held_out].sort().values),
            _split(test, torch.arange(test.rows)),
        )

    def model(self) -> nn.Module:
        return HRNet({"segmentation": len(CLASSES), "depth": 1}, width=self.width)

    def representation(self, model: nn.Module) -> nn.Module | None:
        assert isinstance(model, HRNet)
        return model.stages

    def strategy_parameters(self, variant: Variant) -> dict[str, Any]:
        """The paper's: ILT's learning rate, and DWA's temperature, which is the same in all."""
        corrupted = variant.fractions()
        ilt_lr = 0.4 if "depth" in corrupted else 3.0 if "segmentation" in corrupted else 4.0
        return {"ilt.lr": ilt_lr, "dwa.temperature": 2.0}


def _split(prepared: PreparedSplit, rows: torch.Tensor) -> Split:
    return Split(
        RowSubset(prepared["image"], rows),
        {
            "segmentation": RowSubset(prepared["segmentation"], rows),
            "depth": RowSubset(prepared["inverse_depth"], rows),
        },
    )
