"""Office-31 and Office-Home, the real datasets."""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from mtlbench.data.office import OFFICE_31, OFFICE_HOME, OFFICES, Office
from mtlbench.data.orders import even_order
from mtlbench.data.prepared import PreparedSplit, open_prepared
from mtlbench.data.rows import RowSubset
from mtlbench.data.splits import Data, Split, Targets
from mtlbench.data.variants import CLEAN
from mtlbench.errors import UserError
from mtlbench.models.resnet import ResNet18
from mtlbench.randomness import named_generator
from mtlbench.suites.augmentation import choose, draw_half
from mtlbench.suites.base import LOCATION, Suite, register_suite
from mtlbench.tasks.metrics import accuracy
from mtlbench.tasks.task import Task, cross_entropy

USES = ("training", "validation", "the test")


@dataclass(frozen=True, kw_only=True)
class OfficeSuite(Suite):
    """Images of the same classes in several domains, each of them a task with images of its own.

    The recipe is that of LibMTL (Lin & Zhang 2023, `examples/office`): a ResNet-18 and a fully
    connected layer that all domains share, a linear head for each; cross entropy; Adam at 1e-4,
    which does not fall; 64 images of each domain a step; 100 epochs; results of the epoch that is
    best on validation data. Different from it: the network starts from random weights, since
    nothing is downloaded, and images are mirrored at random. docs/office.md has the rest.

    Of each class in each domain, 60 % of the images are for training and 20 % for validation, both
    rounded down as in LibMTL's lists, and the rest for the test, drawn at random once.

    **An epoch** ends when each training image of the largest domain has been seen once. The domains
    take turns, so that each has the same share of every batch, and a smaller one begins again, in
    another order, as often as that takes.

    Attributes:
        width: channels of the network's first layer; 64 as published.
    """

    epochs: int = 100
    lr: float = 1e-4
    epoch_rule: str = "best"
    width: int = 64
    prepared: str = field(metadata=LOCATION)

    office: ClassVar[Office]

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_at_least_one("width")

    def tasks(self) -> tuple[Task, ...]:
        classes = self.office.classes
        return tuple(
            Task(
                domain,
                "classification",
                loss=cross_entropy(),
                metrics=(accuracy(len(classes)),),
                corruptions=("other-class", "next-class", "shuffle"),
                classes=classes,
            )
            for domain in self.office.domains
        )

    def check(self) -> None:
        self._rows(self._open())

    def data(self) -> Data:
        images = self._open()
        domain, label = images["domain"].read_all().long(), images["class"].read_all()
        present = functional.one_hot(domain, len(self.office.domains)).bool()

        def split(rows: Tensor) -> Split:
            return Split(
                RowSubset(images["image"], rows),
                # Of a domain that an image is not of, its label is absent.
                dict.fromkeys(self.office.domains, label[rows]),
                present[rows],
                [images.sources[row] for row in rows.tolist()],
            )

        return Data(*map(split, self._rows(images)))

    def _open(self) -> PreparedSplit:
        prepared = open_prepared(self.prepared, "office")
        name = prepared.settings["dataset"]
        if name != self.office.name:
            (held,) = (office for office in OFFICES if office.name == name)
            raise UserError(
                f"{self.prepared!r} holds {held.title}, whose suite is {held.suite!r}: "
                f"mtlbench run {held.suite} --set prepared={self.prepared}"
            )
        return prepared.split("images")

    def _rows(self, images: PreparedSplit) -> list[Tensor]:
        """Row numbers of training, validation and test.

        What becomes of an image depends on those of its own domain and class alone.

        Raises:
            UserError: one of the three has no image of some domain.
        """
        domains, labels = images["domain"].read_all(), images["class"].read_all()
        place = torch.empty(len(domains), dtype=torch.uint8)
        for number, domain in enumerate(self.office.domains):
            for label, name in enumerate(self.office.classes):
                own = ((domains == number) & (labels == label)).nonzero()[:, 0]
                chance = named_generator(self.office.name, "split", domain, name)
                own = own[torch.randperm(len(own), generator=chance)]
                train, validation = 3 * len(own) // 5, len(own) // 5
                for part, first in enumerate((0, train, train + validation)):
                    place[own[first:]] = part
            for part, use in enumerate(USES):
                if not (place[domains == number] == part).any():
                    raise UserError(
                        f"{self.prepared!r} has too few images of {domain!r} to leave one for "
                        f"{use}: it takes a class with five"
                    )
        return [(place == part).nonzero()[:, 0] for part in range(len(USES))]

    def model(self) -> nn.Module:
        outputs = dict.fromkeys(self.office.domains, len(self.office.classes))
        return ResNet18(outputs, width=self.width)

    def augment(
        self, inputs: Tensor, targets: Targets, generator: torch.Generator
    ) -> tuple[Tensor, Targets]:
        """Each image is mirrored with probability one half."""
        mirrored = draw_half(len(inputs), generator, inputs.device)
        return choose(mirrored, inputs.flip(-1), inputs), targets

    def order(self, train: Split, generator: torch.Generator) -> Tensor:
        """The domains take turns until the largest has been seen once."""
        assert train.present is not None
        return even_order(train.present, generator)

    def lr_factor(self, progress: float) -> float:
        return 1.0


@register_suite("office", label="Office-31")
@dataclass(frozen=True, kw_only=True)
class Office31(OfficeSuite):
    """Office-31: 31 things of an office as a shop, a camera and a webcam see them.

    Saenko, Kulis, Fritz, Darrell: Adapting Visual Category Models to New Domains, ECCV 2010; 4,110
    images, from a directory that `mtlbench prepare office` has written. Tasks: `amazon`, `dslr` and
    `webcam`, 31 classes each. docs/office.md has the recipe and says what an epoch is.

    Attributes:
        prepared: the prepared dataset.
        batch_size: 64 images of each of the three domains.
    """

    batch_size: int = 192
    prepared: str = field(default="prepared/office", metadata=LOCATION)

    office: ClassVar[Office] = OFFICE_31
    default_variants: ClassVar[tuple[str, ...]] = (CLEAN, "amazon@0.4")


@register_suite("office-home", label="Office-Home")
@dataclass(frozen=True, kw_only=True)
class OfficeHome(OfficeSuite):
    """Office-Home: 65 things of everyday in art, clip art, product pictures and photographs.

    Venkateswara, Eusebio, Chakraborty, Panchanathan: Deep Hashing Network for Unsupervised Domain
    Adaptation, CVPR 2017; 15,588 images, from a directory that `mtlbench prepare office` has
    written. Tasks: `art`, `clipart`, `product` and `real_world`, 65 classes each. docs/office.md
    has the recipe and says what an epoch is.

    Attributes:
        prepared: the prepared dataset.
        batch_size: 64 images of each of the four domains.
    """

    batch_size: int = 256
    prepared: str = field(default="prepared/office-home", metadata=LOCATION)

    office: ClassVar[Office] = OFFICE_HOME
    default_variants: ClassVar[tuple[str, ...]] = (CLEAN, "art@0.4")
