"""Names, parameters, and plugins that add to them."""

from pathlib import Path
from typing import Any, Literal

import pytest

from mtlbench.errors import UserError
from mtlbench.plugins import PluginFile
from mtlbench.registry import Entry, Registry, convert
from mtlbench.strategies.base import strategies


@pytest.fixture
def shapes() -> Registry:
    return Registry("shape", object)


class Circle:
    """A round shape.

    More about it.
    """

    def __init__(self, radius: float = 1.0, filled: bool = False) -> None:
        self.radius, self.filled = radius, filled


def test_a_registered_class_is_found_with_its_label_and_summary(shapes: Registry) -> None:
    assert shapes.register("circle", label="Circle")(Circle) is Circle
    entry = shapes.get("circle")
    assert (entry.name, entry.cls, entry.label) == ("circle", Circle, "Circle")
    assert entry.summary == "A round shape."
    assert entry.source == ""
    assert shapes.entries() == [entry]


def test_a_class_without_a_label_is_called_by_its_name(shapes: Registry) -> None:
    shapes.register("circle")(Circle)
    assert shapes.get("circle").label == "circle"


def test_a_name_can_be_registered_once_only(shapes: Registry) -> None:
    shapes.register("circle")(Circle)
    with pytest.raises(UserError, match="shape 'circle' is registered twice"):
        shapes.register("circle")(int)
    assert shapes.get("circle").cls is Circle


UNUSABLE = ["", "Circle", "a b", "a+b", "a,b", "a/b", "a@b", "a\tb", "..", "-lead", "[", "a:b"]
UNUSABLE += ["a\0b", "\x1b[31m", "\u202eleft", "\ud800", "x" * 65, "a.b", "a=b"]


@pytest.mark.parametrize("name", UNUSABLE)
def test_a_name_that_cannot_be_typed_is_refused(name: str, shapes: Registry) -> None:
    with pytest.raises(UserError, match="must be lower case, and letters, digits"):
        shapes.register(name)(Circle)
    assert shapes.entries() == []


@pytest.mark.parametrize("name", ["all", "clean"])
def test_a_name_that_stands_for_something_else_is_refused(name: str, shapes: Registry) -> None:
    with pytest.raises(UserError, match=f"'{name}' has a meaning of its own"):
        shapes.register(name)(Circle)


def test_an_unknown_name_offers_the_nearest(shapes: Registry) -> None:
    shapes.register("circle")(Circle)
    with pytest.raises(UserError, match=r"unknown shape 'cirle'; did you mean 'circle'\?"):
        shapes.get("cirle")
    with pytest.raises(UserError, match="unknown shape 'square'; known: circle"):
        shapes.get("square")


def test_a_namespace_makes_its_entries_on_demand(shapes: Registry) -> None:
    shapes.register("circle")(Circle)
    shapes.register_namespace("own", lambda name: Entry(f"own:{name}", Circle, name, ""))
    assert shapes.get("own:Disc") == Entry("own:Disc", Circle, "Disc", "")
    assert [entry.name for entry in shapes.entries()] == ["circle"]
    with pytest.raises(UserError, match=r"unknown shape 'own'; did you mean 'own:NAME'\?"):
        shapes.get("own")
    with pytest.raises(UserError, match="unknown shape 'other:Disc'"):
        shapes.get("other:Disc")


def test_parameters_are_defaults_overridden_by_converted_values(shapes: Registry) -> None:
    shapes.register("circle")(Circle)
    entry = shapes.get("circle")
    assert entry.resolve({}) == {"radius": 1.0, "filled": False}
    assert entry.resolve({"filled": "true"}) == {"radius": 1.0, "filled": True}
    with pytest.raises(UserError, match=r"unknown parameter 'c\.radios'; did you mean 'c\.radius'"):
        entry.resolve({"radios": 1}, prefix="c.")


def test_a_parameter_without_a_default_has_to_be_given(shapes: Registry) -> None:
    class Square:
        def __init__(self, side: float) -> None:
            self.side = side

    shapes.register("square")(Square)
    entry = shapes.get("square")
    assert entry.resolve({"side": "2"}) == {"side": 2.0}
    with pytest.raises(UserError, match="side"):
        entry.resolve({})


# --- values ---


@pytest.mark.parametrize(
    ("value", "annotation", "expected"),
    [
        ("3", int, 3),
        (3, int, 3),
        (3.0, int, 3),
        ("-2", int, -2),
        ("0.5", float, 0.5),
        ("1e-3", float, 1e-3),
        (2, float, 2.0),
        ("true", bool, True),
        ("False", bool, False),
        (True, bool, True),
        ("text", str, "text"),
        ("float32", Literal["float32", "bfloat16"], "float32"),
        ("left:1,right:0.5", dict[str, float], {"left": 1.0, "right": 0.5}),
        ("", dict[str, float], {}),
        ({"left": 2}, dict[str, float], {"left": 2.0}),
    ],
)
def test_a_value_is_converted_to_the_type_of_its_parameter(
    value: Any, annotation: Any, expected: Any
) -> None:
    converted = convert("name", value, annotation)
    assert converted == expected
    assert type(converted) is type(expected)


@pytest.mark.parametrize(
    ("value", "annotation", "message"),
    [
        ("2.5", int, "name must be a whole number, but is '2.5'"),
        (2.5, int, "name must be a whole number, but is 2.5"),
        (True, int, "name must be a whole number, but is True"),
        (None, int, "name must be a whole number, but is None"),
        ("", float, "name must be a number, but is ''"),
        ("nan", float, "name must be a number, but is 'nan'"),
        (float("inf"), float, "name must be a number, but is inf"),
        (False, float, "name must be a number, but is False"),
        ([1.0], float, "name must be a number, but is [1.0]"),
        ("yes", bool, "name must be true or false, but is 'yes'"),
        (1, bool, "name must be true or false, but is 1"),
        (
            "float16",
            Literal["float32", "bfloat16"],
            "name must be 'float32' or 'bfloat16', but is 'float16'",
        ),
        (
            "left=1",
            dict[str, float],
            "name must be a mapping such as left:1,right:0.5, but is 'left=1'",
        ),
        (
            "left:much",
            dict[str, float],
            "name must be a mapping such as left:1,right:0.5, but is 'left:much'",
        ),
        (3, dict[str, float], "name must be a mapping such as left:1,right:0.5, but is 3"),
    ],
)
def test_a_value_of_another_type_is_refused_in_one_line(
    value: Any, annotation: Any, message: str
) -> None:
    with pytest.raises(UserError) as raised:
        convert("name", value, annotation)
    assert str(raised.value) == message


# --- plugins ---

PLUGIN = """
from pathlib import Path
import mtlbench

with open(Path(__file__).with_suffix(".log"), "a") as log:
    log.write("loaded\\n")

@mtlbench.register_strategy("third", label="A third")
class Third(mtlbench.LossWeighting):
    '''A third of each loss.'''

    def weights(self, losses, present):
        return losses * 0 + 1 / 3
"""


def plugin(tmp_path: Path, text: str) -> PluginFile:
    path = tmp_path / "plugin.py"
    path.write_text(text, encoding="utf-8")
    return PluginFile.read(path)


def test_a_plugin_registers_what_it_brings_and_is_the_source_of_it(tmp_path: Path) -> None:
    plugin(tmp_path, PLUGIN).load()
    entry = strategies.get("third")
    assert (entry.label, entry.summary) == ("A third", "A third of each loss.")
    assert len(entry.source) == 8
    assert strategies.get("equal").source == ""


def test_loading_a_plugin_twice_does_nothing(tmp_path: Path) -> None:
    for _ in range(2):
        plugin(tmp_path, PLUGIN).load()
    assert (tmp_path / "plugin.log").read_text() == "loaded\n"


def test_a_changed_plugin_has_another_source(tmp_path: Path) -> None:
    sources = set()
    for name in ("one", "other"):
        plugin(tmp_path, PLUGIN.replace("third", name)).load()
        sources.add(strategies.get(name).source)
    assert len(sources) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("import no_such_module", "No module named 'no_such_module'"),
        (PLUGIN.replace('"third"', '"equal"'), "strategy 'equal' is registered twice"),
        (PLUGIN.replace('"third"', '"Third"'), "strategy name 'Third' must be lower case"),
    ],
    ids=["raises", "imports what is not there", "takes a name", "has a bad name"],
)
def test_a_plugin_that_fails_is_named_with_the_reason(
    text: str, message: str, tmp_path: Path
) -> None:
    broken = plugin(tmp_path, text)
    for _ in range(2):
        with pytest.raises(UserError) as raised:
            broken.load()
        assert str(raised.value).startswith(f"plugin file '{tmp_path / 'plugin.py'}': ")
        assert message in str(raised.value)


def test_a_plugin_that_fails_registers_nothing(tmp_path: Path) -> None:
    """A worker that lives on would otherwise call its names taken the next time."""
    broken = plugin(tmp_path, PLUGIN + "1 / 0\n")
    for _ in range(2):
        with pytest.raises(UserError, match="division by zero"):
            broken.load()
        assert "third" not in [entry.name for entry in strategies.entries()]


def test_a_plugin_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"plugin file '.*absent\.py' does not exist"):
        PluginFile.read(tmp_path / "absent.py")


def test_a_plugin_file_that_is_a_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"plugin file '.*' cannot be read: "):
        PluginFile.read(tmp_path)


def test_a_plugin_file_that_is_not_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "image.py").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(UserError, match=r"plugin file '.*image\.py' cannot be read: "):
        PluginFile.read(tmp_path / "image.py")


def test_a_plugin_file_that_is_not_python_is_named_with_the_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"plugin\.py', line 2 is not Python: ") as raised:
        plugin(tmp_path, "x = 1\nthis is no Python\n")
    assert "\n" not in str(raised.value)
