"""How many jobs fit on the machines of a cluster, and whether they train on GPUs.

Machines are what `ray.nodes()` says of them. Nothing here asks Ray for anything.
"""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from math import isclose
from pathlib import Path
from runpy import run_path
from typing import Any

Nodes = Sequence[Mapping[str, Any]]

KIND = "accelerator_type:"
"""Begins the name of the resource that says which GPU a machine has."""


def room(node: Mapping[str, Any], needs: Mapping[str, float]) -> int:
    """How many jobs fit on a machine.

    Args:
        node: the machine.
        needs: `CPU` and `GPU` of a job; 0 where it takes none.
    """
    fits = [node["Resources"].get(kind, 0.0) / count for kind, count in needs.items() if count]
    return int(min(fits) + 1e-9)


def gpus_of_a_job(nodes: Nodes, cpus: float, gpus: float | None, share: float) -> float:
    """The GPUs that a job takes.

    Args:
        nodes: the machines.
        cpus: cores of a job.
        gpus: what was asked for; None: a GPU where any machine has room for a job on one. The
            other machines are then not used: another kind of device gives other last digits.
        share: of one GPU, or how many, where nobody asked.
    """
    if gpus is not None:
        return gpus
    return share if any(room(node, {"CPU": cpus, "GPU": share}) for node in nodes) else 0.0


def place_in_words(nodes: Nodes, cpus: float, gpus: float, workers: int = 1) -> str:
    """The place of each job: "on 1/4 of an NVIDIA H100 and 1 CPU", "with 2 CPUs", "in 4 processes,
    each on an NVIDIA H100 and 1 CPU".

    Args:
        nodes: the machines.
        cpus, gpus: what each process of a job takes.
        workers: how many processes it has.
    """
    if workers > 1:
        return f"in {workers} processes, each {place_in_words(nodes, cpus, gpus)}"
    cores = f"{cpus:g} CPU" + "s" * (cpus > 1)
    if not gpus:
        return f"with {cores}"
    found = [_gpu(node) for node in nodes if room(node, {"CPU": cpus, "GPU": gpus})]
    card = " or ".join(sorted(set(found)))
    if gpus > 1:
        return f"on {gpus:g} of {card} and {cores}"
    article = "an" if card.startswith(("NVIDIA", "AMD", "Intel")) else "a"
    return f"on {_fraction(gpus)}{article} {card} and {cores}"


def built_for_gpus() -> bool:
    """Whether this PyTorch can use a GPU at all; without importing it, which takes seconds."""
    found = find_spec("torch")
    if found is None or found.origin is None:
        return False
    version = run_path(str(Path(found.origin).with_name("version.py")))
    return bool(version.get("cuda") or version.get("hip"))


def _gpu(node: Mapping[str, Any]) -> str:
    """The name of a machine's GPU, where Ray knows it."""
    from ray.util.accelerators import accelerators

    nvidia = {name for key, name in vars(accelerators).items() if key.startswith("NVIDIA_")}
    for resource in node["Resources"]:
        name = resource.removeprefix(KIND)
        if resource.startswith(KIND) and name in nvidia:
            return f"NVIDIA {name}"
        if resource.startswith(KIND) and name.startswith(("AMD", "Intel")):
            return name
    return "GPU"


def _fraction(share: float) -> str:
    whole = round(1 / share)
    if whole == 1:
        return ""
    return f"1/{whole} of " if isclose(share * whole, 1, rel_tol=1e-3) else f"{share:g} of "
