"""CelebA, the real dataset."""

from dataclasses import dataclass, field
from typing import ClassVar

from torch import nn

from mtlbench.data.celeba import ATTRIBUTES
from mtlbench.data.prepared import PreparedSplit, open_prepared
from mtlbench.data.splits import Data, Split
from mtlbench.data.variants import CLEAN
from mtlbench.models.faces import FaceNet
from mtlbench.suites.base import LOCATION, Suite, register_suite
from mtlbench.tasks.metrics import binary_accuracy, f1
from mtlbench.tasks.task import Task, binary_cross_entropy


@register_suite("celeba", label="CelebA")
@dataclass(frozen=True, kw_only=True)
class CelebA(Suite):
    """Forty attributes of faces (CelebA; Liu et al. 2015) at 64×64, from a directory that
    `mtlbench prepare celeba` has written.

    Each attribute is a yes-or-no task. Network and recipe are those of FAMO (Liu et al. 2023) and
    FairGrad (Ban & Ji 2024): nine layers; Adam at 3e-4, which does not fall; batches of 256; 15
    epochs; no augmentation; results of the epoch that is best on the published validation images.

    Their tables are of F1, and so is their Δm. Accuracy stands beside it here:
    `mtlbench compare celeba --metrics f1` has F1 alone. docs/celeba.md has the rest.

    Attributes:
        prepared: the prepared dataset.
        width: channels of the network's first layer; 64 as published.
    """

    epochs: int = 15
    batch_size: int = 256
    lr: float = 3e-4
    epoch_rule: str = "best"
    width: int = 64
    prepared: str = field(default="prepared/celeba", metadata=LOCATION)

    default_variants: ClassVar[tuple[str, ...]] = (CLEAN, "Smiling@0.4")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_at_least_one("width")

    def tasks(self) -> tuple[Task, ...]:
        return tuple(
            Task(
                name,
                "classification",
                loss=binary_cross_entropy(),
                metrics=(f1(), binary_accuracy()),
                corruptions=("other-class", "shuffle"),
                classes=("no", "yes"),
                binary=True,
            )
            for name in ATTRIBUTES
        )

    def check(self) -> None:
        open_prepared(self.prepared, "celeba")

    def data(self) -> Data:
        prepared = open_prepared(self.prepared, "celeba")
        return Data(*(_split(prepared.split(name)) for name in ("train", "val", "test")))

    def model(self) -> nn.Module:
        return FaceNet(ATTRIBUTES, width=self.width)

    def lr_factor(self, progress: float) -> float:
        return 1.0


def _split(prepared: PreparedSplit) -> Split:
    # Small beside the pictures: read once.
    columns = prepared["attributes"].read_all().T.contiguous()
    return Split(
        prepared["image"],
        dict(zip(ATTRIBUTES, columns, strict=True)),
        names=[source.rpartition("/")[2] for source in prepared.sources],
    )
