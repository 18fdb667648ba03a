"""The files of docs/cluster.md: scripts that a shell reads, and commands that mtlbench has."""

import re
import shlex
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from conftest import CHECKOUT

from mtlbench.cli.main import build_parser
from mtlbench.strategies.base import strategies
from mtlbench.suites.base import suites

PAGE = (CHECKOUT / "docs" / "cluster.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
SCRIPTS = [text for kind, text in BLOCKS if kind in ("sh", "bash")]
MANIFESTS = [yaml.safe_load(text) for kind, text in BLOCKS if kind == "yaml"]
RAY = re.search(r"^ray==(.*)$", (CHECKOUT / "constraints.txt").read_text(), re.MULTILINE)


def commands() -> Iterator[str]:
    """Every command line of mtlbench on the page."""
    for text in SCRIPTS:
        for line in text.replace("\\\n", " ").splitlines():
            command = re.search(r"mtlbench (?:run|tune|merge) [^'#&]*", line)
            if command:
                yield command[0].strip()
    for manifest in MANIFESTS:
        if "entrypoint" in manifest.get("spec", {}):
            yield manifest["spec"]["entrypoint"]


def test_the_page_has_scripts_manifests_and_commands() -> None:
    assert len(SCRIPTS) == 7
    assert [each.get("kind") for each in MANIFESTS] == ["RayJob", "RayCluster", None]
    assert len(list(commands())) == 12


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_shell_can_read_each_script(script: str) -> None:
    read = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True)
    assert (read.returncode, read.stderr) == (0, "")


@pytest.mark.parametrize("command", list(commands()))
def test_each_command_is_one_that_mtlbench_has(command: str) -> None:
    options, rest = build_parser().parse_known_args(shlex.split(command)[1:])
    assert rest == []
    assert suites.get(options.suite)
    for name in (options.strategies or "").split(","):
        assert name in ("", "all") or strategies.get(name)


def containers(cluster: dict[str, Any]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        for container in pod["containers"]:
            yield container, pod


@pytest.mark.parametrize(
    "cluster", [MANIFESTS[0]["spec"]["rayClusterSpec"], MANIFESTS[1]["spec"]], ids=["job", "stays"]
)
def test_all_pods_have_one_image_the_version_of_ray_and_the_results(cluster: dict) -> None:
    assert RAY
    assert cluster["rayVersion"] == RAY[1]
    assert f"FROM rayproject/ray:{RAY[1]}-py311-gpu" in PAGE
    assert len({container["image"] for container, _ in containers(cluster)}) == 1
    for container, pod in containers(cluster):
        mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert mounted["results"] == "/results"
        assert set(mounted) == {volume["name"] for volume in pod["volumes"]}
    for group in cluster["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]


def test_the_shares_of_a_gpu_are_those_of_the_suites() -> None:
    shares = {entry.name: entry.cls.gpu_share for entry in suites.entries()}
    words = {1 / 8: "an eighth for ", 1 / 4: "a quarter for "}
    for share, text in words.items():
        named = PAGE.partition(text)[2]
        named = re.split(r", a |, an |\n", named)[0]
        assert set(re.findall(r"`([\w-]+)`", named)) == {
            name for name, its in shares.items() if its == share
        }
    assert set(shares.values()) == {1, *words}
