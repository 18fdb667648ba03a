"""Classes by name, and their parameters."""

import dataclasses
import inspect
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeVar

from mtlbench.errors import (
    MOST_LETTERS,
    NAMES,
    UserError,
    describe,
    is_name,
    require_printable,
    shortened,
    unknown,
)

T = TypeVar("T", bound=type)

RESERVED = ("all", "clean")
"""Words that stand for something else where a name may stand."""


@dataclass(frozen=True)
class Entry:
    """A registered class.

    Attributes:
        name: the key on the command line and in tables.
        cls: the class; the parameters of its constructor are what `--set` can reach.
        label: how printed tables call it.
        source: short hash of the plugin file it came from, or "" for a part of the package.
    """

    name: str
    cls: type
    label: str
    source: str

    @property
    def summary(self) -> str:
        """The first paragraph of the class's docstring."""
        text = inspect.getdoc(self.cls) or ""
        if any(text.startswith(f"{part.__name__}(") for part in self.cls.__mro__):
            return ""  # dataclasses make one of the parameters
        return " ".join(text.partition("\n\n")[0].split())

    @property
    def of_package(self) -> bool:
        """Whether it is a part of this package."""
        here, there = __name__.partition(".")[0], self.cls.__module__.partition(".")[0]
        return not self.source and there == here

    def parameters(self) -> dict[str, inspect.Parameter]:
        """The parameters that can be set, with types resolved."""
        return settable(self.cls)

    def resolve(self, values: Mapping[str, Any], *, prefix: str = "") -> dict[str, Any]:
        """All parameters of the class: its defaults, overridden by `values`; see `resolve`."""
        return resolve(self.parameters(), values, prefix=prefix)


def settable(cls: type) -> dict[str, inspect.Parameter]:
    """The parameters of a class's constructor, with types resolved; one without a type has that of
    its default."""
    hints = typing.get_type_hints(getattr(cls, "__init__"))  # noqa: B009 (mypy)
    made = {field.name: field.default_factory for field in _fields(cls)}
    found = {}
    for name, parameter in inspect.signature(cls).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        make, default = made.get(name, dataclasses.MISSING), parameter.default
        if make is not dataclasses.MISSING:
            default = make()
        kind = type(default) if type(default) in SIMPLE else str
        found[name] = parameter.replace(annotation=hints.get(name, kind), default=default)
    return found


def _fields(cls: type) -> tuple["dataclasses.Field[Any]", ...]:
    return dataclasses.fields(cls) if dataclasses.is_dataclass(cls) else ()


SIMPLE = (int, float, bool, str)


def is_parameter(annotation: Any) -> bool:
    """Whether a parameter of this type can be given as text, and kept in a file."""
    known = annotation in SIMPLE or annotation == dict[str, float]
    return known or typing.get_origin(annotation) is Literal or _optional(annotation) is not None


def _optional(annotation: Any) -> Any:
    """X of `X | None`, where X is such a type; else None."""
    options = typing.get_args(annotation)
    if typing.get_origin(annotation) not in (typing.Union, types.UnionType):
        return None
    others = [option for option in options if option is not type(None)]
    return others[0] if len(others) == 1 < len(options) and is_parameter(others[0]) else None


def _require_parameters(what: str, name: str, cls: type) -> None:
    """Makes sure that the constructor of a class that is registered takes parameters alone."""
    try:
        parameters = settable(cls)
    except Exception as error:
        raise UserError(
            f"the parameters of {what} {name!r} cannot be read: {describe(error)}"
        ) from error
    for parameter in parameters.values():
        kind = parameter.annotation
        if not is_parameter(kind):
            raise UserError(
                f"{what} {name!r}: parameter {parameter.name!r} is of type "
                f"{getattr(kind, '__name__', kind)}, but all are int, float, bool, str, Literal, "
                "dict[str, float], or one of these or None; what is not to be set is a ClassVar"
            )
    for field in _fields(cls):
        value = inspect.getattr_static(cls, field.name, dataclasses.MISSING)
        if value is not field.default and not isinstance(value, types.MemberDescriptorType):
            raise UserError(
                f"{what} {name!r}: {field.name} = {value!r} is no field and would change nothing: "
                "write it with its type, in a class under @dataclass(frozen=True, kw_only=True)"
            )


def resolve(
    parameters: Mapping[str, inspect.Parameter], values: Mapping[str, Any], *, prefix: str = ""
) -> dict[str, Any]:
    """All parameters: their defaults, overridden by `values`.

    Strings are converted to the parameter's type, so that the command line and Python take the
    same way.

    Raises:
        UserError: a name that is no parameter, or a value of the wrong type.
    """
    for name in values:
        if name not in parameters:
            raise unknown("parameter", prefix + name, [prefix + known for known in parameters])
    for name, parameter in parameters.items():
        if parameter.default is parameter.empty and name not in values:
            raise UserError(
                f"parameter {prefix + name!r} has no default; give --set {prefix + name}=…"
            )
    return {
        name: convert(prefix + name, values[name], parameter.annotation)
        if name in values
        else plain(parameter.default)
        for name, parameter in parameters.items()
    }


class Registry:
    """Classes by name, all derived from the class `base`, beside which it stands."""

    all: ClassVar[list["Registry"]] = []

    def __init__(self, what: str, base: type) -> None:
        self.what, self.base = what, base
        self.all.append(self)
        self._entries: dict[str, Entry] = {}
        self._namespaces: dict[str, Callable[[str], Entry]] = {}

    def register(self, name: str, *, label: str | None = None) -> Callable[[T], T]:
        """A class decorator that adds the class under `name`.

        Args:
            name: lower-case key of letters, digits, - and _.
            label: how printed tables call it; the name where none is given.

        Raises:
            UserError: the name is taken or cannot be typed on the command line.
        """
        if not is_name(name) or name != name.lower():
            raise UserError(
                f"{self.what} name {shortened(ascii(name))} must be lower case, and {NAMES}, at "
                f"most {MOST_LETTERS} of them"
            )
        if name in RESERVED:
            raise UserError(f"{self.what} name {name!r} has a meaning of its own")
        require_printable(f"label of {self.what} {name!r}", label or name)

        def add(cls: T) -> T:
            if name in self._entries:
                raise UserError(f"{self.what} {name!r} is registered twice")
            if not issubclass(cls, self.base):
                raise UserError(f"{self.what} {name!r} must derive from {self.base.__name__}")
            _require_parameters(self.what, name, cls)
            self._entries[name] = Entry(name, cls, label or name, _current_source[-1])
            return cls

        return add

    def register_namespace(self, namespace: str, find: Callable[[str], Entry]) -> None:
        """Lets `NAMESPACE:NAME` stand for the entry that `find` makes of NAME."""
        self._namespaces[namespace] = find

    def get(self, name: str) -> Entry:
        """The entry of that name.

        Raises:
            UserError: there is none; the message offers the nearest names.
        """
        namespace, separator, member = name.partition(":")
        if separator and namespace in self._namespaces:
            return self._namespaces[namespace](member)
        if name not in self._entries:
            known = [*self._entries, *(f"{prefix}:NAME" for prefix in self._namespaces)]
            raise unknown(self.what, name, known)
        return self._entries[name]

    def entries(self) -> list[Entry]:
        """All entries in the order of registration."""
        return list(self._entries.values())


_current_source = [""]


@contextmanager
def registering_from(source: str) -> Iterator[None]:
    """Registers all that the block does as from this plugin (a short hash), or nothing of it."""
    before = [(registry, dict(registry._entries)) for registry in Registry.all]
    _current_source.append(source)
    try:
        yield
    except BaseException:
        for registry, entries in before:
            registry._entries = entries
        raise
    finally:
        _current_source.pop()


def convert(name: str, value: Any, annotation: Any) -> Any:
    """A parameter's value in the type that its annotation asks for.

    Takes int, float, bool, str, Literal and `dict[str, float]` (typed as `left:1,right:0.5`), and
    of these or None `none`.

    Raises:
        UserError: the value is not of that type.
    """
    value = plain(value)
    if (other := _optional(annotation)) is not None:
        if value is None or str(value).lower() == "none":
            return None
        return convert(name, value, other)
    try:
        if typing.get_origin(annotation) is Literal:
            choices = typing.get_args(annotation)
            if value not in choices:
                raise UserError(
                    f"{name} must be {' or '.join(map(repr, choices))}, but is {value!r}"
                )
            return value
        if typing.get_origin(annotation) is dict:
            return _mapping(value)
        if annotation is bool:
            return _boolean(value)
        if annotation is int:
            return _integer(value)
        if annotation is float:
            return _number(value)
        return str(value)
    except (ValueError, TypeError):
        expected = {
            bool: "true or false",
            int: "a whole number",
            float: "a number",
        }.get(annotation, "a mapping such as left:1,right:0.5")
        raise UserError(f"{name} must be {expected}, but is {value!r}") from None


def plain(value: Any) -> Any:
    """A number of NumPy or PyTorch as one of Python; all else as it is."""
    return value.item() if getattr(value, "shape", None) == () else value


def _boolean(value: Any) -> bool:
    text = str(value).lower()
    if text not in ("true", "false"):
        raise ValueError(value)
    return text == "true"


def _integer(value: Any) -> int:
    if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
        raise ValueError(value)
    return int(value)


def _number(value: Any) -> float:
    if isinstance(value, bool):
        raise ValueError(value)
    number = float(value)
    if number != number or number in (float("inf"), float("-inf")):
        raise ValueError(value)
    return number


def _mapping(value: Any) -> dict[str, float]:
    if isinstance(value, str):
        value = dict(item.split(":", 1) for item in value.split(",") if item)
    return {str(key): _number(item) for key, item in dict(value).items()}
