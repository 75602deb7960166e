"""Streamed rows through an engine that a test makes: it dies on a certain row, and the job ends with all others."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from transformers import AutoTokenizer

from resources.compute import generator
from resources.compute.runner import WorkerFailed
from speed_assets.workers.host import write_json
from speed_assets.workers.jobs import GenerateVllm
from speed_assets.workers.journal import Output
from speed_assets.workers.streaming import EngineDied, Stream
from tests.support.tiny_text import write_model

ROWS = 40


class FakeEngine:
    """A runner whose engine answers `PLACES` rows at a time in this process, and dies when it meets a poisonous one."""

    PLACES = 8

    def __init__(self, poisonous: str) -> None:
        self.poisonous = poisonous
        self.crashes: list[str | None] = []
        self.answered: list[int] = []

    def run(self, kind: str, params: Mapping[str, Any], folder: Path, *_: Any, **__: Any) -> dict[str, Any]:
        job = GenerateVllm.read(params)
        self.crashes.append(job.crash)
        stream = Stream(job, lambda *_: None)
        stream.use(AutoTokenizer.from_pretrained(job.model), 64)
        names = pl.read_parquet(job.prompts)["row_id"]
        for chunks in stream.groups():
            for chunk in chunks:
                for start in range(0, len(chunk), self.PLACES):
                    for request in chunk[start : start + self.PLACES]:
                        if names[request.position] == self.poisonous:
                            stream._journal.close()  # as its process would
                            write_json(folder / "error.json", {"type": EngineDied.__name__, "message": "a fault"})
                            raise WorkerFailed(kind, 1, folder)
                        self.answered.append(request.position)
                        stream.finish([Output(request.position, "text", len(request.ids), 2, True)])
        return stream.close()


@pytest.fixture
def job(tmp_path: Path) -> dict[str, Any]:
    rows = [{"row_id": f"r{row}", "candidate": 0, "prompt": "about music\n"} for row in range(ROWS)]
    pl.DataFrame(rows).write_parquet(tmp_path / "prompts.parquet")
    files = {"prompts": "prompts.parquet", "out": "out.parquet", "journal": "journal"}
    return {
        "model": write_model(tmp_path / "model"),
        "dtype": "float32",
        "seed": 1,
        "temperature": 1.0,
        "top_p": 1.0,
        "max_new_tokens": 5,
        "batch_rows": FakeEngine.PLACES,
        **{name: str(tmp_path / file) for name, file in files.items()},
    }


def test_a_poisonous_row_is_quarantined_and_the_job_resumes(job: dict[str, Any], tmp_path: Path) -> None:
    engine = FakeEngine("r9")
    generator._run(engine, "generate_vllm", job, tmp_path, None, None, restarts=5)  # type: ignore[arg-type]
    outputs = pl.read_parquet(job["out"])
    bad, good = outputs.filter(pl.col("row_id") == "r9"), outputs.filter(pl.col("row_id") != "r9")
    assert bad["error"].item() == "the engine died twice on this row: a fault"
    assert (bad["output"].item(), bad["finished"].item()) == ("", False)
    assert good["output"].to_list() == ["text"] * (ROWS - 1)
    assert engine.crashes[0] is None
    assert set(engine.crashes[1:]) == {"a fault"}
    assert len(engine.answered) == len(set(engine.answered)) == ROWS - 1, "no finished row is asked twice"


def test_an_engine_that_dies_too_often_ends_the_job(job: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(WorkerFailed, match="a fault"):
        generator._run(FakeEngine("r9"), "generate_vllm", job, tmp_path, None, None, restarts=0)  # type: ignore[arg-type]


def test_a_job_with_a_parameter_of_no_kind_is_refused_by_name(job: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="GenerateVllm: poisonous_row: Unexpected keyword argument"):
        GenerateVllm.read({**job, "poisonous_row": "r9"})
    with pytest.raises(ValueError, match="GenerateVllm: seed: "):
        GenerateVllm.read({**job, "seed": "one"})
    assert GenerateVllm.read(GenerateVllm.read(job).to_json()) == GenerateVllm.read(job)
