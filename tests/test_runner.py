"""The runner under faults: what a caller gets, what is left behind, and that no process outlives its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from resources.compute.runner import Runner, WorkerFailed, worker_environment
from resources.redaction import mark_secret_variables, redacted_message
from speed_assets.recipe import PROJECT
from tests.support.tiny_text import write_model
from tests.support.warm import own_workers

pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="workers are forked on Linux only")


@pytest.fixture(scope="module", autouse=True)
def _own_workers() -> Iterator[None]:
    with own_workers():
        yield


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    """One runner for all tests that can share it: what one breaks must not harm the next."""
    runner = Runner(tmp_path_factory.mktemp("home"), threads=2, warm=True)
    runner.warm_up()
    yield runner
    runner.close()


@pytest.fixture
def runner(request: pytest.FixtureRequest, warm: Runner, tmp_path: Path) -> Runner:
    return warm if getattr(request, "param", "warm") == "warm" else Runner(tmp_path, threads=2, warm=False)


both = pytest.mark.parametrize("runner", ["warm", "fresh"], indirect=True)


@pytest.fixture
def job(model: str, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Parameters of a generate job of 40 rows, ten shards and a second or two."""

    def make(name: str, **changes: Any) -> dict[str, Any]:
        rows = [{"row_id": f"r{row}", "candidate": 0, "prompt": f"about {row}\n"} for row in range(40)]
        pl.DataFrame(rows).write_parquet(tmp_path / f"{name}.prompts.parquet")
        return {
            "model": model,
            "revision": None,
            "dtype": "float32",
            "prompts": str(tmp_path / f"{name}.prompts.parquet"),
            "out": str(tmp_path / f"{name}.parquet"),
            "journal": str(tmp_path / f"{name}.journal"),
            "seed": 1,
            "temperature": 1.0,
            "top_p": 1.0,
            "max_new_tokens": 200,
            "batch_rows": 4,
            **changes,
        }

    return make


def children(process: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    except FileNotFoundError:
        return []


def descendants(process: int) -> list[int]:
    below = children(process)
    return below + [deeper for child in below for deeper in descendants(child)]


def worker_of(folder: Path) -> int:
    """The process that writes the log of the job in `folder`."""
    log = str(folder / "worker.log")
    for process in descendants(os.getpid()):
        try:
            if os.readlink(f"/proc/{process}/fd/1") == log:
                return process
        except OSError:
            continue
    raise AssertionError("no worker runs")


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def once_under_way(act: Callable[[], None]) -> Callable[[int, int, str], None]:
    """A progress function that acts when the third shard is begun."""
    acted = False

    def progress(done: int, _total: int, _note: str) -> None:
        nonlocal acted
        if done >= 8 and not acted:
            acted = True
            act()

    return progress


@both
def test_a_job_returns_its_result_and_tells_its_progress(
    runner: Runner, job: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    folder = tmp_path / "job"
    folder.mkdir()
    for stale in ("result.json", "error.json", "progress.jsonl"):
        (folder / stale).write_text("not of this job")
    seen: list[tuple[int, int, str]] = []
    result = runner.run("generate", job("plain"), folder, lambda *report: seen.append(report))
    assert result["rows"] == 40
    assert pl.read_parquet(tmp_path / "plain.parquet").height == 40
    assert seen[-1] == (40, 40, "rows")
    assert [done for done, _, _ in seen] == sorted(done for done, _, _ in seen)
    assert not (folder / "error.json").exists()


def test_a_worker_that_raises_is_named_with_its_reason(warm: Runner, tmp_path: Path) -> None:
    rows = tmp_path / "rows.parquet"
    with pytest.raises(
        WorkerFailed, match=r"worker order failed: FileNotFoundError: .*rows\.parquet.*worker\.log"
    ) as e:
        warm.run("order", {"model": "none", "prompts": str(rows), "out": "none"}, tmp_path / "job")
    assert e.value.code == 1
    assert "\n" not in str(e.value)
    assert "Traceback" in (tmp_path / "job" / "worker.log").read_text()


def test_a_parameter_that_the_kind_does_not_have_ends_the_job_by_name(warm: Runner, tmp_path: Path) -> None:
    with pytest.raises(
        WorkerFailed, match=r"worker order failed: parameters of a job of kind Order: .*prompt: Unexpected"
    ):
        warm.run("order", {"model": "none", "prompt": "rows", "out": "none"}, tmp_path / "job")


def test_an_unknown_kind_is_refused(warm: Runner, tmp_path: Path) -> None:
    with pytest.raises(WorkerFailed, match="no worker does 'magic'"):
        warm.run("magic", {}, tmp_path / "job")


@pytest.mark.faults
def test_a_killed_worker_is_reported_in_words_and_its_work_resumes(
    warm: Runner, job: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    params, folder = job("cut"), tmp_path / "job"
    kill = once_under_way(lambda: os.kill(worker_of(folder), signal.SIGKILL))
    with pytest.raises(WorkerFailed, match=r"SIGKILL \(killed, often for lack of memory\)") as e:
        warm.run("generate", params, folder, kill)
    assert e.value.code == -signal.SIGKILL
    shards = {file: file.stat().st_mtime_ns for file in Path(params["journal"]).glob("*.parquet")}
    assert len(shards) in range(2, 10)
    warm.run("generate", params, folder)
    assert all(file.stat().st_mtime_ns == written for file, written in shards.items())
    warm.run("generate", job("whole"), tmp_path / "other")
    assert pl.read_parquet(params["out"]).equals(pl.read_parquet(tmp_path / "whole.parquet"))


@pytest.mark.faults
@both
def test_an_interrupt_ends_the_worker(runner: Runner, job: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    folder = tmp_path / "job"
    workers: list[int] = []

    def interrupt() -> None:
        workers.append(worker_of(folder))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runner.run("generate", job("cut"), folder, once_under_way(interrupt))
    assert not alive(workers[0])
    assert not (folder / "result.json").exists()


@pytest.mark.faults
def test_a_dead_zygote_is_started_once_more(warm: Runner, job: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    folder = tmp_path / "job"

    def kill_zygote() -> None:
        worker = worker_of(folder)
        os.kill(children(os.getpid())[-1], signal.SIGKILL)
        wait_until(lambda: not alive(worker), 20)  # it dies with its parent

    assert warm.run("generate", job("cut"), folder, once_under_way(kill_zygote))["rows"] == 40


@pytest.mark.faults
@pytest.mark.parametrize("is_warm", [True, False])
def test_a_killed_parent_leaves_no_process(is_warm: bool, job: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    folder = tmp_path / "job"
    params = job("orphan", max_new_tokens=240, batch_rows=1)
    code = (
        "from pathlib import Path; from resources.compute.runner import Runner; "
        f"Runner(Path({str(tmp_path)!r}), 1, {is_warm}).run('generate', {params!r}, Path({str(folder)!r}))"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=PROJECT)
    wait_until(lambda: bool(list(Path(params["journal"]).glob("*.parquet"))))
    below = descendants(parent.pid)
    assert worker_of(folder) in below
    parent.kill()
    parent.wait()
    wait_until(lambda: not any(alive(process) for process in below), 20)
    assert not (folder / "result.json").exists()


def test_a_forked_worker_trains_on_two_threads(warm: Runner, model: str, tmp_path: Path) -> None:
    """Forking after the imports must leave thread pools usable."""
    rows = pl.DataFrame([{"prompt": f"{row}\n", "completion": f"{row + 1}"} for row in range(32)])
    rows.write_parquet(tmp_path / "rows.parquet")
    settings = {
        "learning_rate": 1e-3,
        "batch_size": 8,
        "epochs": 1,
        "warmup_share": 0.0,
        "weight_decay": 0.0,
        "max_length": 40,
        "lora": None,
        "gradient_checkpointing": False,
    }
    params = {
        "base": model,
        "revision": None,
        "dtype": "float32",
        "rows": str(tmp_path / "rows.parquet"),
        "out": str(tmp_path / "out"),
        "settings": settings,
        "seed": 1,
        "checkpoint_minutes": 10.0,
    }
    assert warm.run("sft", params, tmp_path / "job")["steps"] == 4
    assert (tmp_path / "out" / "model" / "model.safetensors").exists()


def test_closing_ends_a_zygote_that_is_still_importing(tmp_path: Path) -> None:
    runner = Runner(tmp_path, threads=1, warm=True)
    before = set(children(os.getpid()))
    runner.warm_up()
    time.sleep(1)
    (zygote,) = set(children(os.getpid())) - before
    started = time.monotonic()
    runner.close()
    assert time.monotonic() - started < 9  # seconds; the runner would use force after ten
    assert not alive(zygote)


def test_workers_see_no_secrets() -> None:
    url = "postgresql://speed:sesame@127.0.0.1/speed"
    secret = {
        "OPENAI_API_KEY": "x",
        "Db_Password": "x",
        "SPEED_LEDGER_URL": url,
        "AZURE_STORAGE_CONNECTION_STRING": "x",
    }
    plain = {"PATH": "/bin", "KEYBOARD": "us", "TOKENIZERS_PARALLELISM": "0", "SPEED_STORE_URL": "s3://bucket/prefix"}
    needed = {"HF_TOKEN": "x"}  # to load a model that asks for consent
    assert worker_environment(secret | plain | needed) == plain | needed


def test_what_a_recipe_names_as_its_key_is_a_secret_whatever_it_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resources.redaction._NAMED", set())
    monkeypatch.setenv("MY_TEACHER", "sk-planted-77")
    mark_secret_variables("MY_TEACHER", None)
    assert worker_environment({"MY_TEACHER": "x", "COPY": "sk-planted-77", "PATH": "/bin"}) == {"PATH": "/bin"}
    assert "sk-planted-77" not in redacted_message(RuntimeError("it said sk-planted-77"))


def test_no_worker_starts_cuda_to_ask_whether_there_is_a_gpu() -> None:
    """vLLM forks its engine and the zygote its workers: neither is possible once CUDA has started in the process."""
    code = "import os; from speed_assets.workers import host; host.prepare_process(1)"
    code += "; print(os.environ['PYTORCH_NVML_BASED_CUDA_CHECK'])"
    environment = {name: value for name, value in os.environ.items() if name != "PYTORCH_NVML_BASED_CUDA_CHECK"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "1"
    engine = (PROJECT / "speed_assets" / "workers" / "generate_vllm.py").read_text()
    places = [
        engine.index(words) for words in ("_CUDA_CHECK", "METHOD", "import torch", ".is_available()", "from vllm")
    ]
    assert places == sorted(places)
