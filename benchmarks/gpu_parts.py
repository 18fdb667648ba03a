"""The parts of `benchmarks/gpu.py`, each a generator of records that JSON can write.

A record with `ok` is the outcome of a check; the others are measurements.
"""

import gc
import multiprocessing
import platform
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import replace
from itertools import product
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from unittest import mock

import full_size
import gpu_checks
import gpu_ranks
import ilt_step
import stacked_seeds
import step_cost
import torch

from mtlbench.analysis import reference
from mtlbench.errors import UserError, describe
from mtlbench.execution.worker import keep_freed_memory
from mtlbench.models.unet import MultiTaskUNet
from mtlbench.spec import RunSpec
from mtlbench.store.runs import RunRecord
from mtlbench.strategies.base import GRADIENT, strategies
from mtlbench.strategies.compose import stage_of
from mtlbench.strategies.network import keep_compiled_buffers
from mtlbench.strategies.table import ON_CPU, ON_DEVICE
from mtlbench.study.plan import plan
from mtlbench.suites.base import suites
from mtlbench.training.graphed import GraphedNetwork, GraphedTasks
from mtlbench.training.job import Place
from mtlbench.training.jobs import RunJob
from mtlbench.version import package_version

Record = dict[str, Any]

ROOT = Path(__file__).parents[1]

STUDY_STRATEGIES = ("equal", "ilt", "mgda", "ilt+cagrad")
STUDIES = (
    ("digits", "clean"),
    ("streets", "clean"),
    ("digits", "left@0.4"),
    ("streets", "segmentation@0.4"),
)
TINY_SUITE = {"epochs": 1, "train_size": 64, "validation_size": 16, "test_size": 16}
TINY_STUDIES = {
    ("digits", "left@0.4"): TINY_SUITE,
    ("streets", "clean"): TINY_SUITE | {"height": 16, "width": 32, "channels": 4},
}

AT_A_TIME = 8

GRAPHED_EPOCHS = {"digits": 3, "streets": 10, "bodies": 2, "multimnist": 3}
BY_TASK = ("mgda",)
GRAPHED_STRATEGIES = ("ilt", *BY_TASK)
"""One that takes one backward pass a step, and one that takes one for each task."""

NEARLY_THE_SAME = 0.03
"""Of a few epochs with CUDA graphs and without, relative: gradients may lie otherwise in memory and
be summed up in another order, and training makes much of it. On a CPU in float32, 6e-8 in the first
step of `bodies` are 6e-3 after two epochs."""

RANKS_STRATEGIES = ("equal", "ilt+cagrad", "graddrop")
RANKS_EPOCHS = {"epochs": 2, "train_size": 2000}

PACKED = (16, 8, 4, 2, 1)
PACKED_EPOCHS = {"digits": 3, "streets": 10, "bodies": 2}
TINY_PACKED = {"streets": TINY_STUDIES["streets", "clean"]}

STACKED = [1, 4, 16]
"""Seeds trained at once in one process."""

STDS = 4.0
SLACK = {"max": 0.05, "min": 0.15}
"""A metric is within the reference if it is no further from its mean than so many standard
deviations, or than this share of the mean, by its direction: the deviation of three seeds may be
small by chance. Of the reference runs themselves, each held against the others of its strategy, 1 %
of the metrics are outside."""

REPEATS = {3: 12, 2: 6, 11: 5, 40: 3}
"""Number of tasks to how often each step is taken."""

TWO_KINDS = {"parts": "classification", "depth": "regression"}


class DeviceLostError(Exception):
    """The device does not answer any more; what is left needs another process."""


def environment(device: str, tiny: bool) -> Iterator[Record]:
    """What is measured on, and with."""
    cuda = torch.device(device).type == "cuda"
    record: Record = {
        "card": torch.cuda.get_device_name(device) if cuda else "cpu",
        "driver": _output(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"])
        if cuda
        else None,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if cuda else None,
        "python": platform.python_version(),
        "mtlbench": package_version(),
        "commit": _output(["git", "-C", str(ROOT), "rev-parse", "HEAD"]),
    }
    if cuda:
        record["memory_gib"] = round(torch.cuda.mem_get_info(device)[1] / 2**30, 1)
        record["capability"] = ".".join(map(str, torch.cuda.get_device_capability(device)))
    yield record


def right(device: str, tiny: bool, done: set[str]) -> Iterator[Record]:
    """Every check of every strategy that is not done yet; tiny, of one strategy in six."""
    gpu_checks.prepare(device)
    for check, run in gpu_checks.CHECKS.items():
        for case in gpu_checks.cases_of(check)[:: 6 if tiny else 1]:
            key = f"{check}: {case}"
            if key in done:
                continue
            record: Record = {"key": key, "check": check, "case": str(case)}
            try:
                record |= {"ok": True, "note": run(case, device)}
            except Exception as error:
                failed = isinstance(error, AssertionError)
                record |= {"ok": False, "note": str(error) if failed else describe(error)}
            yield record
            if not record["ok"] and not _answers(device):
                raise DeviceLostError(f"the device is lost after {key}")


def studies(device: str, tiny: bool) -> Iterator[Record]:
    """A run of some strategies on two suites, held against the reference runs.

    Several run at a time: a step of networks as small as these leaves a GPU idle.
    """
    specs = [
        spec
        for suite, variant in (TINY_STUDIES if tiny else STUDIES)
        for spec in plan(
            suite,
            strategies=STUDY_STRATEGIES,
            variants=[variant],
            seeds=1,
            overrides=TINY_STUDIES[suite, variant] if tiny else {},
        )
    ]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1 if tiny else AT_A_TIME, context) as pool:
        runs = {pool.submit(run_of_study, spec, device, tiny): spec for spec in specs}
        for run in as_completed(runs):
            spec = runs[run]
            yield {
                "suite": spec.suite,
                "variant": spec.variant,
                "strategy": spec.strategy,
                **run.result(),
            }


def run_of_study(spec: RunSpec, device: str, tiny: bool) -> Record:
    """Trains one run and judges it."""
    if device == "cpu":
        torch.set_num_threads(1)
    *_, ended = RunJob(spec).train(Place(device), None)
    record = ended.result
    assert isinstance(record, RunRecord)
    return judged(record.info, [] if tiny else reference_runs(spec))


def reference_runs(spec: RunSpec) -> list[Record]:
    """The reference runs that differ in their seed at most."""
    keys = ("suite", "variant", "strategy", "suite_parameters", "strategy_parameters")
    return [
        run
        for run in reference.reference_runs()
        if all(run["spec"][key] == getattr(spec, key) for key in keys)
    ]


def judged(info: Record, references: list[Record]) -> Record:
    """A run's metrics, each with the reference beside it and whether it is within."""
    metrics = []
    for metric in info["metrics"]:
        key = (metric["task"], metric["metric"])
        values = [
            other["value"]
            for run in references
            for other in run["metrics"]
            if (other["task"], other["metric"]) == key
        ]
        entry: Record = {"task": key[0], "metric": key[1], "value": metric["value"]}
        if len(values) > 1:
            mean, std = statistics.mean(values), statistics.stdev(values)
            most = max(STDS * std, SLACK[metric["direction"]] * abs(mean))
            within = abs(metric["value"] - mean) <= most
            entry |= {"mean": mean, "std": std, "n": len(values), "within": within}
        metrics.append(entry)
    within = all(entry.get("within", True) for entry in metrics)
    return {
        "ok": info["status"] == "done" and within,
        "status": info["status"],
        "error": info["error"],
        "timings": info["timings"],
        "compared": any("within" in entry for entry in metrics),
        "metrics": metrics,
    }


def packing(device: str, tiny: bool) -> Iterator[Record]:
    """Runs an hour of each suite, so many at a time, each in a process of its own.

    A few epochs are trained and the rate is scaled to all of them; what is done once a run (data,
    the first step of a process) is left out.
    """
    context = multiprocessing.get_context("spawn")
    counts = (1,) if tiny else PACKED
    ends: list[Connection] = []
    for _ in range(max(counts)):
        here, there = context.Pipe()
        context.Process(target=_train_what_comes, args=(there, device), daemon=True).start()
        there.close()
        ends.append(here)
    for suite in TINY_PACKED if tiny else PACKED_EPOCHS:
        overrides = TINY_PACKED[suite] if tiny else {"epochs": PACKED_EPOCHS[suite]}
        (spec,) = plan(
            suite, strategies=["equal"], variants=["clean"], seeds=1, overrides=overrides
        )
        try:
            _trained_at_once(ends[:1], spec)  # data are made, and kept where a suite has a cache
            _trained_at_once(ends, spec)  # kernels are loaded
        except RuntimeError as error:
            yield {"suite": suite, "ok": False, "note": str(error)}
            continue
        for count in counts:
            seconds = _trained_at_once(ends[:count], spec)
            share = overrides["epochs"] / suites.get(suite).cls().epochs
            yield {
                "suite": suite,
                "at_a_time": count,
                "epochs": overrides["epochs"],
                "seconds": round(seconds, 3),
                "runs_per_hour": round(3600 * count * share / seconds, 1),
            }


def _train_what_comes(end: Connection, device: str) -> None:
    """Trains each run that is sent, and answers when it is done."""
    torch.set_num_threads(1)  # as in a worker
    with suppress(EOFError):  # nothing comes any more
        while True:
            *_, ended = RunJob(end.recv()).train(Place(device), None)
            info = ended.result.info
            end.send(info["error"] if info["status"] != "done" else None)


def _trained_at_once(ends: list[Connection], spec: RunSpec) -> float:
    """Seconds until every process has trained the run. Raises RuntimeError where one could not."""
    started = time.perf_counter()
    for end in ends:
        end.send(spec)
    errors = [end.recv() for end in ends]
    seconds = time.perf_counter() - started
    for error in filter(None, errors):
        raise RuntimeError(error.strip().splitlines()[-1])
    return seconds


def stacked(device: str, tiny: bool) -> Iterator[Record]:
    """A step of several seeds in one process, their networks stacked, beside one network's."""
    for name in TINY_PACKED if tiny else PACKED_EPOCHS:
        suite = suites.get(name).cls(**(TINY_PACKED[name] | {"batch_size": 2} if tiny else {}))
        try:
            for record in stacked_seeds.measured(
                suite, [2] if tiny else STACKED, device, repeats=1 if tiny else 20
            ):
                yield {"suite": name, **record}
        except Exception as error:
            yield {"suite": name, "ok": False, "note": describe(error)[:300]}


def step_costs(device: str, tiny: bool) -> Iterator[Record]:
    """Every strategy's step over that of `equal`, with few tasks and with many; those that weigh
    gradients on the representation, too."""
    keep_freed_memory()
    for count, repeats in ({2: 1} if tiny else REPEATS).items():
        tasks = {f"{task}-{n}": kind for n in range(count) for task, kind in TWO_KINDS.items()}
        tasks = dict([*tasks.items()][:count])
        sizes = {"batch": 2, "size": 16} if tiny else {}
        for record in _step_costs(step_cost.Bench(device, tasks=tasks, **sizes), repeats):
            yield {"tasks": count, **record}


def _step_costs(bench: step_cost.Bench, repeats: int) -> Iterator[Record]:
    equal = bench.ours("equal")
    for entry in strategies.entries():
        stage = stage_of(entry)
        forms = [{}, {"on": "representation"}] if stage == GRADIENT else [{}]
        for form in forms:
            record: Record = {"strategy": entry.name, "stage": stage, **form}
            try:
                step = bench.ours(entry.name, **form)
                seconds, ratios = step_cost.between(equal, step, repeats)
                record["ms"] = round(1e3 * statistics.median(seconds), 3)
                record["ratio"] = round(statistics.median(ratios), 3)
            except UserError:  # a direction's state by parameter has no representation
                continue
            except Exception as error:
                record |= {"ok": False, "note": describe(error)}
            yield record


# --- full-size networks ---------------------------------------------------------------------


def eager(device: str, tiny: bool) -> Iterator[Record]:
    """Both full-size networks as PyTorch runs them, `equal` and `ilt`, beside a plain loop."""
    rates = _matrix_rates(device)
    cuda = torch.device(device).type == "cuda"
    names = {"float32": "float32 by TF32" if cuda else "float32"}
    yield {"matrix_tflops": {names.get(key, key): rate / 1e12 for key, rate in rates.items()}}
    for case in reversed(_networks(tiny)):
        model = full_size.mtlbench_model(case, torch.device(device))
        try:
            yield from _timed(case, model, device, tiny, rates, ("float32", "bfloat16"), "eager")
        except Exception as error:
            yield {"network": case.name, "ok": False, "note": describe(error)[:300]}


def graphed(device: str, tiny: bool) -> Iterator[Record]:
    """The same, the network's forward and backward pass replayed as a CUDA graph each; first, runs
    of the small suites with and without."""
    for suite, strategy in product(TINY_PACKED if tiny else GRAPHED_EPOCHS, GRAPHED_STRATEGIES):
        overrides = TINY_PACKED[suite] if tiny else {"epochs": GRAPHED_EPOCHS[suite]}
        what = {"suite": suite, "strategy": strategy}
        try:
            yield what | _with_and_without_graphs(suite, strategy, overrides, device)
        except Exception as error:
            yield {**what, "ok": False, "note": describe(error)[:300]}
    rates = _matrix_rates(device)
    place = torch.device(device)
    for precision in ("bfloat16", "float32"):
        for case in _networks(tiny)[1:] if tiny else _networks(tiny):
            model = full_size.mtlbench_model(case, place)
            try:
                network: full_size.Model = model
                if place.type == "cuda":
                    sample = full_size.prepared(case.images[: case.batch].to(place))
                    network = GraphedNetwork(model, sample, half=precision == "bfloat16")
                yield from _timed(
                    case, model, device, tiny, rates, (precision,), "graphed", network
                )
            except Exception as error:
                what = {"network": case.name, "precision": precision, "mode": "graphed"}
                yield {**what, "ok": False, "note": describe(error)[:300]}


def _with_and_without_graphs(suite: str, strategy: str, overrides: Record, device: str) -> Record:
    """Seconds of training so; that a run gives the same bits again is a check, and that the two
    give nearly the same numbers."""
    (spec,) = plan(suite, strategies=[strategy], variants=["clean"], seeds=1, overrides=overrides)
    cls = suites.get(suite).cls
    seconds: dict[bool, list[float]] = {False: [], True: []}
    histories, epochs = [], spec.suite_parameters["epochs"]
    for graphs in (False, False, True, True):  # the first ones warm up
        with mock.patch.object(cls, "graphed", graphs):
            *_, ended = RunJob(spec).train(Place(device), None)
        record = ended.result
        if record.info["status"] != "done":
            raise RuntimeError((record.info["error"] or "diverged").strip().splitlines()[-1])
        seconds[graphs].append(record.info["timings"]["train_seconds"] / epochs)
        histories.append(record.history)
    eager, replayed = (taken[-1] for taken in seconds.values())
    pairs = ((0, 1), (2, 3), (0, 2))
    *again, apart = (gpu_ranks.apart(histories[n], histories[m]) for n, m in pairs)
    return {
        "ok": max(again) == 0 and apart <= NEARLY_THE_SAME,
        "again": max(again),
        "epoch_seconds": round(eager, 4),
        "graphed_epoch_seconds": round(replayed, 4),
        "times_as_fast": round(eager / replayed, 3),
        "apart": apart,
    }


def tables(device: str, tiny: bool) -> Iterator[Record]:
    """A step of the suite `streets` whose 400,000 instances have parameters, on the device and off
    it, over that of `equal`."""
    suite = suites.get("streets").cls(**(TINY_STUDIES["streets", "clean"] if tiny else {}))
    with tempfile.TemporaryDirectory() as directory:
        steps = ilt_step.whole_steps(suite, device, directory)
        seconds = ilt_step.in_turn(steps, 1 if tiny else 40)
    for name, taken in seconds.items():
        ratios = [a / b for a, b in zip(taken, seconds["equal"], strict=True)]
        yield {
            "step": name,
            "instances": ilt_step.INSTANCES,
            "ms": round(1e3 * statistics.median(taken), 3),
            "ratio": round(statistics.median(ratios), 3),
        }


def by_task(device: str, tiny: bool) -> Iterator[Record]:
    """The same with a strategy that takes a backward pass for each task: as PyTorch runs it, by
    CUDA graphs, and, of the U-Net, with each block compiled by itself, so that tasks and the layers
    that they reach are told apart."""
    rates = _matrix_rates(device)
    place = torch.device(device)
    for case in _networks(tiny)[1:] if tiny else reversed(_networks(tiny)):
        for mode in ("eager", "graphed", "compiled blocks"):
            model = full_size.mtlbench_model(case, place)
            network: full_size.Model = model
            what = {"network": case.name, "precision": "bfloat16", "mode": mode}
            try:
                if mode == "graphed" and place.type == "cuda":
                    sample = full_size.prepared(case.images[: case.batch].to(place))
                    network = GraphedTasks(model, sample, half=True)
                elif mode == "compiled blocks":
                    if not isinstance(model, MultiTaskUNet):
                        continue
                    keep_compiled_buffers()
                    _compile_blocks(model, backend="eager" if tiny else "inductor")
                yield from _timed(
                    case, model, device, tiny, rates, ("bfloat16",), mode, network, BY_TASK
                )
            except Exception as error:
                yield {**what, "ok": False, "note": describe(error)[:300]}


def _compile_blocks(model: MultiTaskUNet, backend: str) -> None:
    trunk = model.trunk
    blocks = [trunk.stem, *trunk.down, *trunk.merge]
    torch._dynamo.config.recompile_limit = 8 * len(blocks)  # they are of one class
    for block in blocks:
        block.compile(backend=backend)


def processes(device: str, tiny: bool) -> Iterator[Record]:
    """Runs by several processes together, beside the same by one."""
    specs = plan(
        "digits",
        strategies=RANKS_STRATEGIES[:1] if tiny else RANKS_STRATEGIES,
        variants=["clean"],
        seeds=1,
        overrides=TINY_SUITE if tiny else RANKS_EPOCHS,
    )
    yield from gpu_ranks.checks(specs, device)


def compiled(device: str, tiny: bool) -> Iterator[Record]:
    """The same, compiled; what is soonest compiled comes first."""
    rates = _matrix_rates(device)
    for precision in ("bfloat16", "float32"):
        # Tiny, HRNet is left out, whose graph alone takes half a minute to trace.
        for case in _networks(tiny)[1:] if tiny else reversed(_networks(tiny)):
            torch.compiler.reset()
            model = full_size.mtlbench_model(case, torch.device(device))
            # What a graph is made of is compiled by a backend; tiny, it is only traced.
            model.compile(backend="eager" if tiny else "inductor")
            try:
                yield from _timed(case, model, device, tiny, rates, (precision,), "compiled")
            except Exception as error:
                what = {"network": case.name, "precision": precision, "mode": "compiled"}
                yield {**what, "ok": False, "note": describe(error)[:300]}


def _networks(tiny: bool) -> list[full_size.Case]:
    torch.manual_seed(0)
    cases = [full_size.hrnet(tiny), full_size.multi_task_unet(tiny)]
    return [_cut(case, 64) for case in cases] if tiny else cases


def _cut(case: full_size.Case, side: int) -> full_size.Case:
    """The case with smaller pictures."""
    shape = case.images.shape[2:]
    targets = {
        name: target[..., :side, :side] if target.shape[1:] == shape else target
        for name, target in case.targets.items()
    }
    return replace(case, images=case.images[..., :side, :side], targets=targets)


def _matrix_rates(device: str) -> dict[str, float]:
    """Operations a second that matrix products reach; float32 convolutions use TF32 on a GPU."""
    place = torch.device(device)
    rates = {"float32": full_size.matrix_rate(torch.float32, place, tf32=place.type == "cuda")}
    if place.type == "cuda":
        rates["bfloat16"] = full_size.matrix_rate(torch.bfloat16, place)
    return rates


def _timed(
    case: full_size.Case,
    model: torch.nn.Module,
    device: str,
    tiny: bool,
    rates: dict[str, float],
    precisions: tuple[str, ...],
    mode: str,
    network: full_size.Model | None = None,
    strategies: Sequence[str] = ("equal", "ilt"),
) -> Iterator[Record]:
    """Loops that take turns: the plain one, and one with each strategy in each precision."""
    place = torch.device(device)
    loops: dict[tuple[str, str], Callable[[], object]] = {
        ("plain", "float32"): full_size.plain_step(case, place)
    }
    forms = [(name, name, ON_DEVICE) for name in strategies]
    if mode == "eager" and "ilt" in strategies:
        forms.append(("ilt, table in memory", "ilt", ON_CPU))
    for precision in precisions:
        for name, strategy, where in forms:
            loops[name, precision] = full_size.mtlbench_step(
                case,
                place,
                model,
                network,
                half=precision == "bfloat16",
                strategy_name=strategy,
                instances=64 if tiny else ilt_step.INSTANCES,
                instance_tables=where,
            )
    repeats, steps = (1, 1) if tiny else (3, 10)
    work = full_size.operations(loops["plain", "float32"])
    started = time.perf_counter()
    for step in loops.values():
        full_size.seconds_of(step, 1 if tiny else full_size.WARM_UP, place)
    warm_up = time.perf_counter() - started
    seconds: dict[tuple[str, str], list[float]] = {key: [] for key in loops}
    for _ in range(repeats):
        for key, step in loops.items():
            seconds[key].append(full_size.seconds_of(step, steps, place))
    plain = seconds["plain", "float32"]
    for (strategy, precision), taken in seconds.items():
        median = statistics.median(taken)
        rate = rates.get(precision)
        yield {
            "network": case.name,
            "loop": strategy,
            "precision": precision,
            "mode": "eager" if strategy == "plain" else mode,
            "images_per_second": case.batch / median,
            "ms": 1e3 * median,
            "over_plain": statistics.median(a / b for a, b in zip(plain, taken, strict=True)),
            "of_matrix_rate": work / median / rate if rate else None,
            "warm_up_seconds": round(warm_up, 1),
        }
    loops.clear()
    gc.collect()
    if place.type == "cuda":
        torch.cuda.empty_cache()


def _answers(device: str) -> bool:
    """Whether the device still works after an error: one inside a kernel loses the process its
    device."""
    if torch.device(device).type == "cuda":
        try:
            torch.cuda.synchronize(device)
            torch.ones(1, device=device).cpu()
        except Exception:
            return False
    return True


def _output(command: list[str]) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip().splitlines()[0] if done.stdout.strip() else None
