"""Suites made from their parameters, and the parameters that they ask of strategies."""

from collections.abc import Mapping
from typing import Any

from mtlbench.data.variants import Variant
from mtlbench.errors import UserError, describe
from mtlbench.spec import RunSpec
from mtlbench.strategies.compose import Composition
from mtlbench.suites.base import Suite, suites


def suite_of(spec: RunSpec) -> Suite:
    """The suite of a run."""
    return build_suite(spec.suite, {**spec.suite_parameters, **spec.locations})


def build_suite(name: str, parameters: Mapping[str, Any]) -> Suite:
    """The suite of that name with these parameters.

    Raises:
        UserError: an unknown name or parameter, or a value of the wrong type or range.
    """
    entry = suites.get(name)
    try:
        suite: Suite = entry.cls(**entry.resolve(parameters))
        hash(suite)  # data are kept by it
    except ValueError as error:
        raise UserError(f"suite {name!r}: {error}") from error
    except Exception as error:
        raise UserError(f"suite {name!r} cannot be made: {describe(error)}") from error
    return suite


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


def changed_parameters(spec: RunSpec) -> list[str]:
    """The parameters of a run that are neither the defaults nor what the suite's recipe puts there.

    Those of the suite by name, those of its strategy as `STAGE.PARAMETER`.
    """
    suite = suite_of(spec)
    variant = Variant.parse(spec.variant, suite.tasks())
    known = suites.get(spec.suite).parameters()
    defaults = {name: parameter.default for name, parameter in known.items()}
    defaults |= recipe_parameters(suite, variant, Composition.parse(spec.strategy), {})
    of_suite = suites.get(spec.suite).resolve({**spec.suite_parameters, **spec.locations})
    own = {**of_suite, **spec.strategy_parameters}
    return [name for name, value in own.items() if defaults[name] != value]
