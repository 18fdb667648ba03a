"""Run specs: all that decides the result of one run."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

from mtlbench.data.variants import Variant
from mtlbench.errors import UserError, describe
from mtlbench.strategies.compose import Composition
from mtlbench.suites.base import Suite, suites


@dataclass(frozen=True)
class RunSpec:
    """All that decides the result of one run.

    Attributes:
        suite, variant, strategy: names, in their one spelling.
        suite_parameters: every field of the suite.
        strategy_parameters: every parameter of the stages, as `STAGE.PARAMETER`.
        seed: fixes initial weights, batch order and augmentation.
        sources: hash of the plugin file of the suite or of a stage that comes from one.
        locations: where this machine keeps the suite's data; no part of the hash.
    """

    suite: str
    suite_parameters: Mapping[str, Any]
    variant: str
    strategy: str
    strategy_parameters: Mapping[str, Any]
    seed: int
    sources: Mapping[str, str]
    locations: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def hash(self) -> str:
        """12 hexadecimal digits of the content."""
        content = {key: value for key, value in asdict(self).items() if key != "locations"}
        text = json.dumps(content, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def build_suite(self) -> Suite:
        """The suite of this run."""
        return build_suite(self.suite, {**self.suite_parameters, **self.locations})

    def changed(self) -> list[str]:
        """The parameters that are neither the defaults nor what the suite's recipe puts there."""
        variant = Variant.parse(self.variant, self.build_suite().tasks())
        known = suites.get(self.suite).parameters()
        defaults = {name: parameter.default for name, parameter in known.items()}
        defaults |= recipe_parameters(
            self.build_suite(), variant, Composition.parse(self.strategy), {}
        )
        own = {**self.suite_parameters, **self.locations, **self.strategy_parameters}
        return [name for name, value in own.items() if defaults[name] != value]

    def __str__(self) -> str:
        return f"{self.suite}/{self.variant}/{self.strategy}/seed-{self.seed}"


def recipe_parameters(
    suite: Suite, variant: Variant, composition: Composition, overrides: Mapping[str, Any]
) -> dict[str, Any]:
    """Every parameter of a composition's stages on a variant, as `STAGE.PARAMETER`.

    Its default, what the suite's recipe puts in its place, or what `overrides` do.

    Raises:
        UserError: one that does not exist, or a value of the wrong type.
    """
    mine = {stage.name for stage in composition.stages}
    given = {**suite.strategy_parameters(variant), **overrides}
    return composition.resolve({k: v for k, v in given.items() if k.partition(".")[0] in mine})


def build_suite(name: str, parameters: Mapping[str, Any]) -> Suite:
    """The suite of that name with these parameters.

    Raises:
        UserError: an unknown name or parameter, or a value of the wrong type or range.
    """
    entry = suites.get(name)
    try:
        suite: Suite = entry.cls(**entry.resolve(parameters))
    except ValueError as error:
        raise UserError(f"suite {name!r}: {error}") from error
    except Exception as error:
        raise UserError(f"suite {name!r} cannot be made: {describe(error)}") from error
    return suite
