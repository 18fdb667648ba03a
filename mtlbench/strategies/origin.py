"""What a strategy was built by, which is saved with its state."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Origin:
    """What a strategy was built by, as far as its state depends on it.

    Attributes:
        strategy: its name, or those of its stages' classes.
        parameters: `STAGE.PARAMETER` to value.
        tasks, kinds: the K tasks in their order, and the kind of each.
        num_instances: N where instances are told apart, else None.
    """

    strategy: str
    parameters: Mapping[str, Any]
    tasks: list[str]
    kinds: list[str]
    num_instances: int | None

    def state(self) -> dict[str, Any]:
        """For `require_same`; of plain values."""
        return asdict(self)

    def require_same(self, state: Mapping[str, Any]) -> None:
        """Makes sure that a strategy of this origin can take over the state of another.

        Args:
            state: `state` of the other's origin.

        Raises:
            ValueError: something differs; the message names the first thing that does.
        """
        saved = _flat(state)
        for what, mine in _flat(self.state()).items():
            if saved.get(what) != mine:
                raise ValueError(
                    f"the state is of a strategy with {what} {saved.get(what)!r}, and this one has "
                    f"{mine!r}: build it as that one was built, or go on without the state"
                )


def plain_values(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers and arrays of NumPy and tensors as those of Python, which any file takes and which
    can be compared."""
    return {
        name: value.tolist() if hasattr(value, "tolist") else value
        for name, value in parameters.items()
    }


def _flat(state: Mapping[str, Any]) -> dict[str, Any]:
    """Each parameter by itself, by its name."""
    own = {key: value for key, value in state.items() if key != "parameters"}
    return own | {**state.get("parameters", {})}
