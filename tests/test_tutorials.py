"""What the tutorials and the FAQ show is run, and what they say of the code holds."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import CHECKOUT, here
from torch.nn import functional

from mtlbench import build_strategy
from mtlbench.analysis.results import load_results
from mtlbench.analysis.statistics import pairs_needed

DOCS = CHECKOUT / "docs"
TASKS = {"digit": "classification", "height": "regression"}


def blocks(page: str, language: str = "python") -> list[str]:
    text = (DOCS / page).read_text("utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


def run_script(code: str, directory: Path) -> str:
    ended = subprocess.run(
        [sys.executable, "-c", code],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_the_tutorials_strategy_passes_its_own_test(tmp_path: Path) -> None:
    strategy, test = blocks("own-strategy.md")
    (tmp_path / "running_mean.py").write_text(strategy)
    run_script(test, tmp_path)


def test_the_tutorials_strategy_trains_on_the_tutorials_suite(
    train_here: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "running_mean.py").write_text(blocks("own-strategy.md")[0])
    (suite,) = blocks("own-suite.md")
    (tmp_path / "wine.py").write_text(suite)
    plugins = ["--plugin", "running_mean.py", "--plugin", "wine.py"]
    names = ["--strategies", "equal,running-mean,ilt+running-mean"]
    variants = ["--variants", "cultivar@0.4", "alcohol@0.4:uniform"]
    options = ["--seeds", "1", "--epochs", "2"]
    ended = here(["run", "wine", *plugins, *names, *variants, *options], capsys)
    assert ended.status == 0, ended.err
    runs = load_results(tmp_path / "runs")
    assert set(runs["label"]) == {"Eq. Weight", "Running Mean", "ILT Params + Running Mean"}
    assert set(runs["variant"]) == {"cultivar@0.4", "alcohol@0.4:uniform"}


def test_the_loop_of_the_tutorial_prints_a_weight_for_each_task(tmp_path: Path) -> None:
    lines = run_script(blocks("own-loop.md")[0], tmp_path).splitlines()
    assert len(lines) == 3
    assert all(set(json.loads(line.replace("'", '"'))) == set(TASKS) for line in lines)


def test_the_page_of_lightning_logs_a_weight_for_each_task(tmp_path: Path) -> None:
    pytest.importorskip("lightning", reason="pip install mtlbench[lightning]")
    *_, metrics = run_script(blocks("integrations.md")[0], tmp_path).splitlines()
    assert set(json.loads(metrics.replace("'", '"'))) == {f"weight/{task}" for task in TASKS}


def test_the_page_of_hugging_face_logs_a_weight_for_each_task(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="pip install mtlbench[transformers]")
    lines = run_script(blocks("integrations.md")[1], tmp_path)
    assert len(re.findall(r"'weight/topic': '[\d.]+', 'weight/length': '[\d.]+'", lines)) == 3


@pytest.mark.parametrize("page", sorted(path.name for path in DOCS.glob("*.md")))
def test_every_command_on_a_page_has_options_that_there_are(page: str) -> None:
    """As far as the command line reads them; nothing is trained."""
    from mtlbench.cli.main import build_parser

    for block in blocks(page, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            if line.startswith("mtlbench ") and "…" not in line:
                words = re.sub(r"\s#.*", "", line).split()[1:]
                _, rest = build_parser().parse_known_args(words)
                assert rest == [], line


# --- the FAQ --------------------------------------------------------------------------------------


def first_step(name: str, factor: float) -> torch.Tensor:
    """The gradient of the shared part in the first step, with one loss times a factor."""
    draw = torch.Generator().manual_seed(0)
    inputs, height = torch.randn(64, 8, generator=draw), torch.randn(64, generator=draw)
    digit = torch.randint(3, (64,), generator=draw)
    torch.manual_seed(1)
    trunk, heads = (
        torch.nn.Linear(8, 16),
        torch.nn.ModuleList([torch.nn.Linear(16, n) for n in (3, 1)]),
    )
    model = torch.nn.ModuleList([trunk, heads])
    strategy = build_strategy(name, tasks=TASKS, model=model)
    features = trunk(inputs).relu()
    strategy.backward(
        {
            "digit": functional.cross_entropy(heads[0](features), digit, reduction="none"),
            "height": factor * (heads[1](features).squeeze(1) - height).square(),
        }
    )
    return torch.cat([parameter.grad.flatten() for parameter in trunk.parameters()])


def names_in(sentence: str) -> list[str]:
    (line,) = [x for x in (DOCS / "faq.md").read_text().splitlines() if sentence in x]
    return re.findall(r"`([\w-]+)`", line)


def test_the_faq_names_those_whose_step_keeps_its_direction_on_any_scale() -> None:
    kept, changed = names_in("the direction of the step stays the same"), names_in("it changes for")
    assert len(kept) > 5
    assert len(changed) > 5
    for name in (*kept, *changed):
        cosine = functional.cosine_similarity(first_step(name, 1), first_step(name, 1000), dim=0)
        assert (cosine > 0.9999) == (name in kept), name


def test_the_faqs_smallest_numbers_of_seeds_are_those_of_the_tests() -> None:
    (line,) = [x for x in (DOCS / "faq.md").read_text().splitlines() if "A paired test at 5 %" in x]
    assert "two strategies apart from 6 seeds on, five strategies from 9, and 39 from 15" in line
    pairs = [strategies * (strategies - 1) // 2 for strategies in (2, 5, 39)]
    assert [pairs_needed(count) for count in pairs] == [6, 9, 15]


def test_the_sum_that_uncertainty_weighting_minimises_is_negative_below_the_losses_of_the_faq() -> (
    None
):
    for kind, loss in (("regression", 0.37), ("classification", 0.18)):
        for factor, negative in ((0.97, True), (1.03, False)):
            value = torch.tensor([factor * loss])
            strategy = build_strategy("mtu", tasks={"a": kind})
            scale = 0.5 if kind == "regression" else 1.0
            with torch.no_grad():  # where ∂/∂s of c e^(−s) L + ½ s is 0
                strategy.task.log_variance.copy_((2 * scale * value).log())
            objective = strategy.task.objective(value, torch.tensor([True]))
            assert (objective < 0) == negative


def test_a_loss_of_zero_stops_the_geometric_mean_unless_it_is_marked_as_absent() -> None:
    norms = []
    for present in (None, torch.tensor([[False, True]] * 4)):
        weight = torch.ones(4, requires_grad=True)
        strategy = build_strategy("gls", tasks=TASKS)
        strategy.backward({"digit": 0 * weight, "height": 0.56 * weight}, present=present)
        norms.append(weight.grad.norm())
    assert 0 < norms[0] < 1e-18
    assert norms[1] > 0.1
