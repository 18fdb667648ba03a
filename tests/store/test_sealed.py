"""JSON files of a results directory: what was altered is found."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from analysis.synthetic_runs import metric, tried, write_run
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlbench.store.runs import RUN_FILE, Store, read_run
from mtlbench.store.schema import RUN
from mtlbench.store.sealed import DamagedRunError, read_sealed, sealed
from mtlbench.store.trials import read_trial, read_tuning


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with runs, trials and a tuning."""
    root = tmp_path_factory.mktemp("sealed")
    write_run(root, metric(50.0))
    tried(root, [metric(50.0)], [metric(60.0)], strategy="mtu")
    return root


FILES = {
    "streets/clean/equal/seed-*/run.json": lambda file: read_sealed(file, RUN),
    ".trials/*.json": read_trial,
    ".tuned/*.json": read_tuning,
}


@pytest.mark.parametrize("pattern", FILES)
@settings(max_examples=100)
@given(data=st.data())
def test_a_file_with_another_bit_anywhere_is_damaged(
    pattern: str, data: st.DataObject, places: Path
) -> None:
    file = next(places.glob(pattern))
    content = bytearray(file.read_bytes())
    place = data.draw(st.integers(0, 8 * len(content) - 1))
    content[place // 8] ^= 1 << place % 8
    with TemporaryDirectory() as root:
        other = Path(root) / file.name
        other.write_bytes(content)
        with pytest.raises(DamagedRunError):
            FILES[pattern](other)


def test_a_result_that_was_edited_is_named(places: Path) -> None:
    """A better metric by hand would be believed otherwise."""
    run = next(Store(places).run_directories())
    text = (run / RUN_FILE).read_text()
    try:
        (run / RUN_FILE).write_text(text.replace('"value": 50.0', '"value": 60.0'))
        with pytest.raises(DamagedRunError, match=r"run\.json was altered"):
            read_run(run)
    finally:
        (run / RUN_FILE).write_text(text)


def test_a_digest_is_that_of_all_bytes_after_the_first_comma() -> None:
    digest = "1fc423f0a043338c12fa96d0cbf7edf02d6e54bd5a9fe80daecad3f875591486"
    text = f'{{"sha256": "{digest}", "schema_version": 1, "value": null}}'
    assert sealed({"value": float("nan")}).decode() == text
    assert sealed(json.loads(text)).decode() == text
