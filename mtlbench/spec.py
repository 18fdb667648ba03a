"""Run specs: all that decides the result of one run."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from typing import Any


@dataclass(frozen=True)
class RunSpec:
    """All that decides the result of one run.

    Attributes:
        suite, variant, strategy: names, in their one spelling.
        suite_parameters: every field of the suite.
        strategy_parameters: every parameter of the stages, as `STAGE.PARAMETER`.
        seed: fixes initial weights, batch order and augmentation.
        sources: hash of the plugin file of the suite or of a stage that comes from one.
        locations: where this machine keeps the suite's data, and how it reads it; no part of the
            hash.
        fingerprint: names the suite's data, where that may be other data under the same parameters;
            no part of the hash.
    """

    suite: str
    suite_parameters: Mapping[str, Any]
    variant: str
    strategy: str
    strategy_parameters: Mapping[str, Any]
    seed: int
    sources: Mapping[str, str]
    locations: Mapping[str, str] = field(default_factory=dict)
    fingerprint: str = ""

    @classmethod
    def stored(cls, values: Mapping[str, Any]) -> "RunSpec":
        """The spec that a file holds, whatever else it holds beside."""
        return cls(**{each.name: values[each.name] for each in fields(cls) if each.name in values})

    @cached_property
    def hash(self) -> str:
        """12 hexadecimal digits of the content."""
        content = asdict(self)
        del content["locations"], content["fingerprint"]
        text = json.dumps(content, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def __str__(self) -> str:
        return f"{self.suite}/{self.variant}/{self.strategy}/seed-{self.seed}"
