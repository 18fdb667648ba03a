"""JSON files that carry the SHA-256 of what they say: one that was altered is found, not believed.

{"sha256": "<of all the bytes after the first comma>", "schema_version": 1, …}
"""

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mtlbench.files import read_regular, unlisted
from mtlbench.store.schema import SCHEMA_VERSION, Fields, fault

DIGEST = "sha256"

LARGEST_JSON = 2**24
"""Bytes of a JSON file; one that is larger is not read."""


class DamagedRunError(Exception):
    """A run directory that does not hold what it should; the message says what is wrong."""


def sealed(content: Mapping[str, Any], *, indent: int | None = None) -> bytes:
    """A file with the content, and with null for every number that JSON cannot write."""
    whole = {DIGEST: "", "schema_version": SCHEMA_VERSION} | dict(content) | {DIGEST: ""}
    text = json.dumps(_finite(whole), indent=indent, allow_nan=False)
    head, _, rest = text.partition(",")
    return f'{head[:-1]}{_digest(rest.encode())}",{rest}'.encode()


def read_sealed(file: Path, fields: Fields) -> dict[str, Any]:
    """What `sealed` was given.

    Args:
        file: which.
        fields: what it must hold; see `schema`.

    Raises:
        DamagedRunError: it is no such file; the message names it and says why.
    """
    name = file.name
    try:
        content = read_regular(file, LARGEST_JSON)
    except (ValueError, OSError) as error:
        hidden = isinstance(error, ValueError | FileNotFoundError)
        if why := hidden and (unlisted(file) or unlisted(file.parent)):
            raise DamagedRunError(f"it cannot be listed: {why}") from None
        raise DamagedRunError(f"{name} {_unread(error)}") from None
    try:
        info = json.loads(content)
    except (ValueError, RecursionError):
        raise DamagedRunError(f"{name} is truncated or not JSON") from None
    if wrong := fault(info, fields):
        raise DamagedRunError(f"{name} {wrong}")
    if info.pop(DIGEST, None) != _digest(content.partition(b",")[2]):
        raise DamagedRunError(f"{name} was altered")
    kept: dict[str, Any] = info
    return kept


def _unread(error: ValueError | OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "is missing"
    return f"cannot be read: {error.strerror}" if isinstance(error, OSError) else str(error)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
