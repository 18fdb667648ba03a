"""Reading the arrays of a body file, of which no code is ever run.

The official body files are pickles, and unpickling calls whatever a file names. Here a name becomes
a `Record`, which calls nothing and only keeps what the file says about an object. Arrays are made
from the records of what body files hold: NumPy's arrays, SciPy's sparse matrices and chumpy's
wrapped arrays. Any other name ends the reading.
"""

import pickle
import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from mtlbench.errors import UserError, describe

_NAMES = re.compile(
    r"numpy (ndarray|dtype)"
    r"|numpy\._?core\.multiarray (_reconstruct|scalar)"
    r"|numpy\._?core\.numeric _frombuffer"
    r"|scipy\.sparse\._?csc csc_(matrix|array)"
    r"|scipy\.sparse\._?csr csr_(matrix|array)"
    r"|chumpy\.(ch|ch_ops|linalg|reordering) [A-Za-z]+"
    # What the older pickle protocols write for any object, for bytes and for sets.
    r"|(copyreg|copy_reg) _reconstructor"
    r"|(builtins|__builtin__) (object|set)"
    r"|_codecs encode"
)
"""Module and name of all that a pickled body file may name."""


def read_arrays(path: Path, names: Iterable[str]) -> dict[str, np.ndarray]:
    """The named arrays of a body file, .npz or .pkl.

    Raises:
        UserError: it cannot be read, lacks an array, or asks for more than arrays.
    """
    load = {".npz": _load_npz, ".pkl": _load_pickle}.get(path.suffix)
    if load is None:
        raise UserError(f"{path}: a body file ends in .npz or .pkl")
    names = tuple(names)
    at = ""
    arrays = {}
    # A damaged or crafted file can raise anything.
    try:
        with path.open("rb") as file:
            content = load(file)
            missing = [name for name in names if name not in content]
            if missing:
                raise UserError(f"no {', '.join(missing)}; a body file holds {', '.join(names)}")
            for name in names:
                at = f" at {name!r}"
                arrays[name] = _array(content[name])
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from error
    except Exception as error:
        raise UserError(f"{path} cannot be read{at}: {describe(error)}") from error
    return arrays


def _load_npz(file: IO[bytes]) -> Mapping[str, Any]:
    if not zipfile.is_zipfile(file):
        raise UserError("it is no .npz")
    file.seek(0)
    return np.load(file, allow_pickle=False)


def _load_pickle(file: IO[bytes]) -> Mapping[str, Any]:
    # Bytes that Python 2 wrote come as text with the same numbers.
    content = _Unpickler(file, encoding="latin1").load()
    if not isinstance(content, dict):
        raise UserError("it holds no dictionary")
    return content


class Record:
    """An object as a pickle describes it.

    Attributes:
        name: of its class, or of the function that makes it, without the module.
        arguments: what that would be called with.
        state: what the object would then be given.
    """

    name: str
    arguments: tuple[Any, ...]
    state: Any = None

    def __new__(cls, *arguments: Any) -> "Record":
        record = super().__new__(cls)
        record.arguments = arguments
        return record

    # It also keeps a pickle from setting attributes of the class: there `self` is missing.
    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> type[Record]:
        if not _NAMES.fullmatch(f"{module} {name}"):
            wanted = f"{module}.{name}"[:80].encode("unicode_escape").decode()
            raise UserError(
                f"it would call {wanted}, which has no place in a body file; nothing ran"
            )
        return type("Record", (Record,), {"name": name})


def _array(value: Any) -> np.ndarray:
    """The array that a record stands for."""
    if isinstance(value, np.ndarray):
        return value
    if not isinstance(value, Record):
        raise UserError(f"{type(value).__name__} in place of an array")
    name, state = value.name, value.state
    if name == "_reconstructor":
        name = value.arguments[0].name
    match name:
        case "_reconstruct":
            *_, shape, dtype, columns_first, data = state
            return _from_bytes(data, dtype, shape, "F" if columns_first else "C")
        case "_frombuffer":
            data, dtype, shape, order, *axes = value.arguments
            array = _from_bytes(data, dtype, shape, order.replace("K", "C"))
            return array.transpose(*axes) if axes else array
        case "csc_matrix" | "csc_array":
            return _from_columns(state, state["_shape"])
        case "csr_matrix" | "csr_array":
            return _from_columns(state, state["_shape"][::-1]).T
        case "Ch":
            return _array(state["x"])
        case "Select":
            chosen = _array(state["a"]).ravel()[_array(state["idxs"])]
            return chosen.reshape(state.get("preferred_shape", -1))
        case "Reshape":
            return _array(state["a"]).reshape(state["newshape"])
        case "transpose":
            return _array(state["a"]).transpose(state.get("axes"))
    raise UserError(f"{name} in place of an array")


def _from_bytes(data: Any, dtype: Record, shape: tuple[int, ...], order: Any) -> np.ndarray:
    if isinstance(data, Record):  # _codecs.encode(text, "latin1")
        data = data.arguments[0]
    if isinstance(data, str):
        data = data.encode("latin1")
    kind, byte_order = dtype.arguments[0], dtype.state[1]
    if not re.fullmatch("[fiu][1248]", kind):
        raise UserError(f"an array of kind {kind!r}; numbers are needed")
    return np.frombuffer(data, byte_order.replace("|", "") + kind).reshape(shape, order=order)


def _from_columns(state: Mapping[str, Any], shape: tuple[int, int]) -> np.ndarray:
    """A dense array from compressed sparse columns."""
    ends = _array(state["indptr"])
    dense = np.zeros(shape)
    columns = np.repeat(np.arange(shape[1]), np.diff(ends))
    np.add.at(dense, (_array(state["indices"]), columns), _array(state["data"]))
    return dense
