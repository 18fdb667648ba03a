"""Where workers are started, and which machines they are on, without any Ray."""

import socket
from types import SimpleNamespace

import pytest
import ray

from mtlbench.execution.events import Event, LostRayError
from mtlbench.execution.fleet import Crew, Fleet, Machine, alive_nodes
from mtlbench.execution.resources import Resources


def fleet_of(workers: int) -> tuple[Fleet, list[Event]]:
    """Of a cluster, whose jobs are trained by so many processes; and what it tells."""
    told: list[Event] = []
    setup = Resources(workers=workers).setup([])
    return Fleet(1, 0, setup, elastic=True, emit=told.append, left=lambda node: None), told


@pytest.mark.parametrize(
    ("slots", "workers", "places"),
    [
        ({"a": 2, "b": 4}, {}, ("b",) * 3),  # together, where they can be
        ({"a": 2, "b": 2}, {}, ("a", "a", "b")),
        ({"a": 1, "b": 2}, {}, ("b", "b", "a")),
        ({"a": 2, "b": 2}, {"a": 2}, ()),
        ({"a": 4, "b": 4}, {"a": 2}, ("b",) * 3),
    ],
)
def test_processes_of_a_group_are_together_where_there_is_room(
    slots: dict[str, int], workers: dict[str, int], places: tuple[str, ...]
) -> None:
    fleet, _ = fleet_of(3)
    fleet.machines = {
        name: Machine(name, count, workers.get(name, 0)) for name, count in slots.items()
    }
    assert fleet.free_places() == places


def test_a_machine_is_not_missed_while_a_worker_may_still_come_up() -> None:
    fleet, told = fleet_of(1)
    fleet.machines = {"node": Machine("host", 2, workers=2, reason="no worker starts there")}
    fleet.starting = {"the second": Crew(None, ("node",))}
    fleet.wait_for_machines()
    assert not told
    fleet.starting = {}
    fleet.wait_for_machines()
    assert [event.text for event in told] == ["no machine is left to train on; waits for one"]


@pytest.mark.parametrize(("own", "lost"), [("here", False), ("elsewhere", True)])
def test_ray_is_lost_with_the_node_that_the_driver_belongs_to(
    own: str, lost: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray then takes the job for finished, and workers that are asked for never come."""
    with socket.create_server(("127.0.0.1", 0)) as head:
        address = f"127.0.0.1:{head.getsockname()[1]}"
        context = SimpleNamespace(gcs_address=address, get_node_id=lambda: own)
        monkeypatch.setattr(ray, "get_runtime_context", lambda: context)
        known = [{"NodeID": "here", "Alive": True}, {"NodeID": "elsewhere", "Alive": False}]
        monkeypatch.setattr(ray, "nodes", lambda: known)
        if lost:
            with pytest.raises(LostRayError, match="on this machine has died"):
                alive_nodes()
        else:
            assert alive_nodes() == known[:1]
