"""Body files as others write them, as they get damaged, and as an attacker would craft them."""

import contextlib
import io
import os
import pickle
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import scipy.sparse

from mtlbench.errors import UserError
from mtlbench.models.smpl import PARENTS, BodyModel

VERTICES = 30


def draw_arrays() -> dict[str, np.ndarray]:
    """The arrays of a body, under the official names and of the official kinds."""
    rng = np.random.default_rng(0)
    regressor = rng.uniform(size=(24, VERTICES)) * (rng.uniform(size=(24, VERTICES)) < 0.2)
    return {
        "v_template": rng.normal(size=(VERTICES, 3)),
        "shapedirs": rng.normal(size=(VERTICES, 3, 10)),
        "posedirs": rng.normal(size=(VERTICES, 3, 207)),
        "J_regressor": regressor,
        "weights": rng.dirichlet(np.ones(24), VERTICES),
        "kintree_table": np.array([(2**32 - 1, *PARENTS[1:]), range(24)], dtype=np.uint32),
        "f": rng.integers(0, VERTICES, (50, 3)).astype(np.uint32),
    }


def assert_holds(body: BodyModel, arrays: dict[str, np.ndarray]) -> None:
    """A body holds exactly the numbers of these arrays."""
    assert np.array_equal(body.template, arrays["v_template"])
    assert np.array_equal(body.shape_directions, arrays["shapedirs"])
    assert np.array_equal(body.pose_directions, arrays["posedirs"])
    assert np.array_equal(body.joint_regressor, arrays["J_regressor"])
    assert np.array_equal(body.weights, arrays["weights"])
    assert np.array_equal(body.faces, arrays["f"])
    assert body.parents == PARENTS
    assert body.template.dtype == body.joint_regressor.dtype == np.float64
    assert body.faces.dtype == np.int64


class Term:
    """Base of chumpy's classes, as far as a pickle shows it."""

    def __init__(self, **terms: Any) -> None:
        self.__dict__.update(terms, _dirty_vars=set(), _itr=None, _depends_on_deps={})


CHUMPY = {
    "chumpy.ch": ("Ch", "MatVecMult"),
    "chumpy.reordering": ("Select", "Reshape", "transpose"),
}


@pytest.fixture
def chumpy() -> Iterator[dict[str, type[Term]]]:
    """chumpy's classes by name, in modules that are there until a body file is written."""
    classes = {}
    for name, members in {"chumpy": (), **CHUMPY}.items():
        module = ModuleType(name)
        for member in members:
            classes[member] = type(member, (Term,), {"__module__": name})
            setattr(module, member, classes[member])
        vars(module)["os"] = os
        sys.modules[name] = module
    yield classes
    forget_chumpy()


def forget_chumpy() -> None:
    for name in ("chumpy", *CHUMPY):
        sys.modules.pop(name, None)


class Python2Pickler(pickle._Pickler):
    """Writes text and bytes alike as Python 2 did: as strings of bytes."""

    dispatch = pickle._Pickler.dispatch.copy()

    def save_string(self, value: str | bytes) -> None:
        value = value.encode("latin1") if isinstance(value, str) else value
        self.write(pickle.BINSTRING + len(value).to_bytes(4, "little") + value)

    dispatch[str] = dispatch[bytes] = save_string


def dump_in_python_2(content: Any) -> bytes:
    """A pickle as Python 2 with the NumPy and SciPy of its time wrote it."""
    buffer = io.BytesIO()
    Python2Pickler(buffer, protocol=2).dump(content)
    for today, then in ((b"numpy._core", b"numpy.core"), (b"sparse._cs", b"sparse.cs")):
        buffer = io.BytesIO(buffer.getvalue().replace(today, then))
    return buffer.getvalue()


WRITERS: dict[str, Callable[[Any], bytes]] = {
    f"protocol {protocol}": lambda content, protocol=protocol: pickle.dumps(content, protocol)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
} | {"Python 2": dump_in_python_2}


@pytest.mark.parametrize("writer", WRITERS)
def test_official_pickles_are_read_without_chumpy(
    writer: str, tmp_path: Path, chumpy: dict[str, type[Term]]
) -> None:
    arrays = draw_arrays()
    ch, select = chumpy["Ch"], chumpy["Select"]
    many = np.concatenate([arrays["shapedirs"], arrays["shapedirs"] + 1], axis=-1)
    first = np.arange(many.size).reshape(many.shape)[..., :10]
    content = {
        **arrays,
        "J_regressor": scipy.sparse.csc_matrix(arrays["J_regressor"]),
        "v_template": ch(x=arrays["v_template"]),
        "shapedirs": select(a=ch(x=many), idxs=first.ravel(), preferred_shape=first.shape),
        "J": chumpy["MatVecMult"](mtx=scipy.sparse.csc_matrix(np.eye(3)), vec=ch(x=np.ones(3))),
        "pose_training_info": {"gender": "female", "count": np.float64(3)},
        "bs_type": "lrotmin",
    }
    (tmp_path / "body.pkl").write_bytes(WRITERS[writer](content))
    forget_chumpy()
    assert_holds(BodyModel.load(tmp_path / "body.pkl"), arrays)


def sparse_rows(array: np.ndarray, chumpy: dict[str, type[Term]]) -> Any:
    return scipy.sparse.csr_matrix(array)


def sparse_array(array: np.ndarray, chumpy: dict[str, type[Term]]) -> Any:
    return scipy.sparse.csc_array(array)


def columns_first(array: np.ndarray, chumpy: dict[str, type[Term]]) -> Any:
    return np.asfortranarray(array)


def big_endian(array: np.ndarray, chumpy: dict[str, type[Term]]) -> Any:
    return array.astype(">f8")


def reshaped(array: np.ndarray, chumpy: dict[str, type[Term]]) -> Any:
    return chumpy["Reshape"](a=chumpy["Ch"](x=array.ravel()), newshape=array.shape)


def transposed(array: np.ndarray, chumpy: dict[str, type[Term]]) -> Any:
    return chumpy["transpose"](a=chumpy["Ch"](x=array.T.copy()), axes=None)


@pytest.mark.parametrize(
    "store", [sparse_rows, sparse_array, columns_first, big_endian, reshaped, transposed]
)
@pytest.mark.parametrize("protocol", [2, 5])
def test_other_ways_to_store_an_array_are_read(
    store: Callable[..., Any], protocol: int, tmp_path: Path, chumpy: dict[str, type[Term]]
) -> None:
    arrays = draw_arrays()
    content = {**arrays, "J_regressor": store(arrays["J_regressor"], chumpy)}
    (tmp_path / "body.pkl").write_bytes(pickle.dumps(content, protocol))
    forget_chumpy()
    assert_holds(BodyModel.load(tmp_path / "body.pkl"), arrays)


@pytest.mark.parametrize("protocol", [2, 5])
def test_axes_in_any_order_are_read(protocol: int, tmp_path: Path) -> None:
    arrays = draw_arrays()
    directions = np.ascontiguousarray(arrays["shapedirs"].transpose(0, 2, 1)).transpose(0, 2, 1)
    content = {**arrays, "shapedirs": directions}
    (tmp_path / "body.pkl").write_bytes(pickle.dumps(content, protocol))
    assert_holds(BodyModel.load(tmp_path / "body.pkl"), arrays)


def test_npz_is_read(tmp_path: Path) -> None:
    arrays = draw_arrays()
    np.savez(tmp_path / "body.npz", gender="neutral", **arrays)
    assert_holds(BodyModel.load(tmp_path / "body.npz"), arrays)


def first_changed(array: np.ndarray, value: float) -> np.ndarray:
    """A copy whose first number is another."""
    array = array.copy()
    array.flat[0] = value
    return array


DAMAGES: dict[str, tuple[str, Callable[[np.ndarray], Any], str]] = {
    "wrong number of axes": ("v_template", np.ravel, "shape [90], but in an SMPL body [V, 3]"),
    "one vertex less": ("weights", lambda a: a[1:], "shape [29, 24], but in an SMPL body [30, 24]"),
    "pose of fewer joints": ("posedirs", lambda a: a[..., :-9], "shape [30, 3, 198], but"),
    "turned matrix": ("J_regressor", np.transpose, "shape [30, 24], but in an SMPL body [24, 30]"),
    "not a number": (
        "shapedirs",
        lambda a: first_changed(a, np.nan),
        "numbers that are not finite",
    ),
    "infinity": ("weights", lambda a: first_changed(a, -np.inf), "numbers that are not finite"),
    "other tree": ("kintree_table", lambda a: a[:, ::-1], "not the tree of SMPL"),
    "vertex out of range": ("f", lambda a: first_changed(a, 30), "vertices outside 0 … 29"),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("suffix", [".npz", ".pkl"])
def test_wrong_arrays_are_named(damage: str, suffix: str, tmp_path: Path) -> None:
    name, change, message = DAMAGES[damage]
    arrays = draw_arrays()
    arrays[name] = change(arrays[name])
    path = write(tmp_path / f"body{suffix}", arrays)
    assert_refused(path, re.escape(f"{path}: {name} ") + ".*" + re.escape(message))


@pytest.mark.parametrize("name", draw_arrays())
@pytest.mark.parametrize("suffix", [".npz", ".pkl"])
def test_missing_arrays_are_named(name: str, suffix: str, tmp_path: Path) -> None:
    arrays = draw_arrays()
    del arrays[name]
    assert_refused(write(tmp_path / f"body{suffix}", arrays), f"no {name};")


def write(path: Path, content: dict[str, Any]) -> Path:
    """Writes a body file in the format of its name."""
    if path.suffix == ".npz":
        np.savez(path, **content)
    else:
        path.write_bytes(pickle.dumps(content))
    return path


def assert_refused(path: Path, message: str) -> None:
    """Reading a file ends in one line that names the file and says what is wrong."""
    with pytest.raises(UserError, match=message) as refusal:
        BodyModel.load(path)
    assert str(path) in str(refusal.value)
    assert len(str(refusal.value).splitlines()) == 1


def test_files_that_are_no_body_are_named(tmp_path: Path) -> None:
    assert_refused(tmp_path / "absent.npz", "No such file")
    assert_refused(tmp_path / "absent.pkl", "No such file")
    assert_refused(tmp_path / "body.obj", r"ends in \.npz or \.pkl")
    for name, content in (
        ("empty.pkl", b""),
        ("empty.npz", b""),
        ("text.pkl", b"<html>\nPlease log in\n"),
        ("text.npz", b"<html>\nPlease log in\n"),
        ("short.pkl", pickle.dumps(draw_arrays())[:-1000]),
        ("short.npz", write(tmp_path / "whole.npz", draw_arrays()).read_bytes()[:-1000]),
        ("list.pkl", pickle.dumps([1, 2])),
    ):
        (tmp_path / name).write_bytes(content)
        assert_refused(tmp_path / name, "cannot be read")


@pytest.mark.parametrize("value", [None, 3.0, [[0.0]], {}, np.array([None]), np.array(["1"])])
def test_what_is_no_array_of_numbers_is_named(value: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "body.pkl", {**draw_arrays(), "weights": value})
    assert_refused(path, "at 'weights'")


def test_text_in_npz_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "body.npz", {**draw_arrays(), "weights": np.full((VERTICES, 24), "1")})
    assert_refused(path, "weights holds no numbers, but str")


def test_chumpy_terms_that_compute_are_named(tmp_path: Path, chumpy: dict[str, type[Term]]) -> None:
    term = chumpy["MatVecMult"](mtx=np.eye(3), vec=np.ones(3))
    path = write(tmp_path / "body.pkl", {**draw_arrays(), "weights": term})
    assert_refused(path, "at 'weights': MatVecMult in place of an array")


def test_sparse_entries_outside_their_matrix_are_refused(tmp_path: Path) -> None:
    sparse = scipy.sparse.csc_matrix(draw_arrays()["J_regressor"])
    sparse.indices[0] = 10_000
    path = write(tmp_path / "body.pkl", {**draw_arrays(), "J_regressor": sparse})
    assert_refused(path, "at 'J_regressor': IndexError")


class Call:
    """Pickles as a call of a function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any, state: Any = None) -> None:
        self.reduced = (function, arguments, state)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.reduced if self.reduced[2] is not None else self.reduced[:2]


def array_of(data: Any = b"", dtype: Any = "f8", kind: Any = np.ndarray) -> Call:
    """Pickles as an array, with parts of one's own."""
    rebuild = np.ndarray(0).__reduce__()[0]
    assert callable(rebuild)
    return Call(rebuild, kind, (0,), b"b", state=(1, (1,), dtype, False, data))


def dotted(module: str, name: str, argument: str) -> bytes:
    """A call of `module`'s attribute `name`, which protocol 4 allows to have dots."""
    text = b"".join(b"\x8c" + bytes([len(part)]) + part.encode() for part in (module, name))
    return b"\x80\x04" + text + b"\x93\x8c" + bytes([len(argument)]) + argument.encode() + b"\x85R."


def getattr_of_numpy(command: str) -> bytes:
    """getattr(getattr(numpy.f2py, "os"), "system")(command)"""
    inner = b"cbuiltins\ngetattr\n(cnumpy\nf2py\nVos\ntR"
    return b"cbuiltins\ngetattr\n(" + inner + b"Vsystem\ntR(V" + command.encode() + b"\ntR."


SYSTEM = f"{os.system.__module__}.system"
"""Name of `os.system` in a pickle."""

# Each makes the content of a file that runs a shell command when it is unpickled.
ATTACKS: dict[str, tuple[Callable[[str], Any], str]] = {
    "system": (lambda c: Call(os.system, c), SYSTEM),
    "system by name": (lambda c: b"cos\nsystem\n(V" + c.encode() + b"\ntR.", "os.system"),
    "old instance": (lambda c: b"(V" + c.encode() + b"\nios\nsystem\n.", "os.system"),
    "eval": (lambda c: Call(eval, f"__import__('os').system({c!r})"), "builtins.eval"),
    "unneeded array": (lambda c: {**draw_arrays(), "J": Call(os.system, c)}, SYSTEM),
    "array's bytes": (lambda c: {"f": array_of(data=Call(os.system, c))}, SYSTEM),
    "array's numbers": (lambda c: {"f": array_of(dtype=Call(os.system, c))}, SYSTEM),
    "array's class": (lambda c: {"f": array_of(kind=Call(os.system, c))}, SYSTEM),
    "array of objects": (lambda c: {"f": np.array([Call(os.system, c)])}, SYSTEM),
    "key": (lambda c: {Call(os.system, c): 0}, SYSTEM),
    "dots": (lambda c: dotted("numpy", "f2py.os.system", c), "numpy.f2py.os.system"),
    "dots in chumpy": (lambda c: dotted("chumpy.ch", "os.system", c), "chumpy.ch.os.system"),
    "getattr": (getattr_of_numpy, "builtins.getattr"),
}  # fmt: skip


@pytest.mark.usefixtures("chumpy")
@pytest.mark.parametrize("attack", ATTACKS)
def test_files_that_would_run_code_are_refused_and_nothing_runs(
    attack: str, tmp_path: Path
) -> None:
    mark, path = tmp_path / "mark", tmp_path / "body.pkl"
    make, named = ATTACKS[attack]
    content = make(f"touch '{mark}'")
    path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content))
    with contextlib.suppress(Exception):  # raised after the damage is done
        pickle.loads(path.read_bytes())
    assert mark.exists(), "it does nothing, so that nothing would be tested"
    mark.unlink()
    assert_refused(path, f"would call {re.escape(named)}")
    assert not mark.exists()


def test_file_cannot_change_the_reader(tmp_path: Path) -> None:
    # Sets attributes of a class that an honest file names, too.
    attack = b"cnumpy\nndarray\n(N}V__setstate__\ncnumpy\ndtype\nstb."
    (tmp_path / "attack.pkl").write_bytes(attack)
    assert_refused(tmp_path / "attack.pkl", "cannot be read")
    assert_holds(BodyModel.load(write(tmp_path / "body.pkl", draw_arrays())), draw_arrays())


def test_names_cannot_break_the_line(tmp_path: Path) -> None:
    path = tmp_path / "body.pkl"
    path.write_bytes(dotted("os", "system\nAll is well", "true"))
    assert_refused(path, r"os\.system\\nAll is well")
