"""Real servers as teachers: vLLM, a LiteLLM proxy before it, and `transformers serve`. What they take is found out as with any
other."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest

from resources.compute.generator import engine_python
from resources.inputs.base_models import MICROWORLD_BASE
from resources.ledger.calls import CallContext, TeacherUnavailable
from resources.ledger.ledger import Ledger
from resources.teacher.known_dialects import DIALECTS_FILE, DialectBook
from resources.teacher.teacher import Teacher
from speed_assets.domain.attributes import draw_attributes
from speed_assets.domain.prompts import PromptSet, schema_for
from speed_assets.recipe import PROJECT, Recipe, Sampling
from tests.support.tiny import tiny_data, tiny_recipe

START_S = 180
KEY = f"sk-{secrets.token_hex(32)}"
"""The proxy starts with no weaker one; servers without keys do not look."""
COUNT = 8
SCHEMA = schema_for("synthesis", "retrieval")
TEMPLATE = "{{ messages[0].content }}"


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPEED_TEST_TEACHER", KEY)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped base with a chat template that adds nothing."""
    folder = tmp_path_factory.mktemp("models") / "micro"
    shutil.copytree(MICROWORLD_BASE, folder)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return folder


@contextmanager
def serving(command: list[str], log: Path, health: str = "/health", **environment: str) -> Iterator[str]:
    """A server in a process group of its own; its base URL once it is well."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(PROJECT), **environment},
            start_new_session=True,
        )
    try:
        end = time.monotonic() + START_S
        while True:
            assert process.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < end, log.read_text()[-3000:]
            try:
                if httpx2.get(f"http://127.0.0.1:{port}{health}", timeout=5).status_code == 200:
                    break
            except httpx2.TransportError:
                pass
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, 15)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait()


@pytest.fixture(scope="module")
def vllm(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    on_cpu = ["--enforce-eager", "--no-enable-chunked-prefill", "--distributed-executor-backend", "uni"]
    command = [engine_python(None), "-m", "speed_assets.workers.serve", "--model", str(model), "--dtype", "float32"]
    settings = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_NO_USAGE_STATS": "1"}
    log = tmp_path_factory.mktemp("vllm") / "server.log"
    with serving([*command, "--max-num-seqs", "8", *on_cpu], log, **settings) as url:
        yield url


@pytest.fixture(scope="module", params=["vllm", "litellm", "transformers"])
def server(
    request: pytest.FixtureRequest, model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, str]]:
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "vllm":
        yield request.param, request.getfixturevalue("vllm")
        return
    if request.param == "transformers":
        command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(model), "--device", "cpu"]
        with serving([*command, "--dtype", "float32"], folder / "server.log") as url:
            yield request.param, url
        return
    proxy = os.environ.get("SPEED_LITELLM")
    if not proxy:
        pytest.skip("SPEED_LITELLM names no litellm command: `make test-vllm` installs one")
    behind = {"model": f"hosted_vllm/{model}", "api_base": request.getfixturevalue("vllm"), "api_key": "none"}
    config = {"model_list": [{"model_name": str(model), "litellm_params": behind}]}
    (folder / "config.yaml").write_text(json.dumps(config))  # JSON is YAML
    settings = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MASTER_KEY": KEY, "PYTHONPATH": ""}
    with serving(
        [proxy, "--config", str(folder / "config.yaml")], folder / "server.log", "/health/liveliness", **settings
    ) as url:
        yield request.param, url


def recipe_at(url: str, model: Path, **teacher: Any) -> Recipe:
    said = {
        **tiny_data()["teacher"],
        "engine": "openai",
        "model": str(model),
        "endpoint": url,
        "key_variable": "SPEED_TEST_TEACHER",
    }
    return tiny_recipe(teacher={**said, **teacher}, calls={"breaker_s": 120, "timeout_s": 120, "concurrency_start": 4})


def prompts(count: int) -> list[str]:
    words = PromptSet.load("compact")
    return [
        words.synthesis("retrieval", f"find texts on topic {n}", draw_attributes("retrieval", n)) for n in range(count)
    ]


def ask(recipe: Recipe, home: Path, sampling: Sampling, count: int = COUNT) -> Any:
    teacher = Teacher(recipe, Ledger.at(home), dialects=DialectBook(recipe.teacher, home))
    return teacher.ask(CallContext("run", "seed_data"), teacher.requests(prompts(count), sampling, SCHEMA))


def test_a_real_server_answers_from_endpoint_and_model_alone(
    server: tuple[str, str], model: Path, tmp_path: Path
) -> None:
    name, url = server
    answers, use = ask(recipe_at(url, model), tmp_path, Sampling(temperature=1.0, max_new_tokens=200))
    assert [answer.error for answer in answers] == [None] * COUNT
    assert use.refused == 0
    assert all(answer.text for answer in answers)
    assert all(answer.served for answer in answers)
    whole = [answer for answer in answers if answer.finished]
    assert len(whole) >= COUNT // 2
    if name != "transformers":  # which takes a schema and does not hold the model to it
        assert all(set(json.loads(answer.text)) == set(SCHEMA["properties"]) for answer in whole)
    assert all(answer.prompt_tokens for answer in answers)
    again, use = ask(recipe_at(url, model), tmp_path, Sampling(temperature=1.0, max_new_tokens=200))
    assert (use.calls, [answer.text for answer in again]) == (0, [answer.text for answer in answers])
    assert str(model) in (tmp_path / DIALECTS_FILE).read_text()


def test_a_judge_is_asked_greedily_and_a_short_answer_is_cut(
    server: tuple[str, str], model: Path, tmp_path: Path
) -> None:
    _, url = server
    answers, _ = ask(recipe_at(url, model), tmp_path, Sampling(temperature=0.0, max_new_tokens=3), 3)
    assert {answer.finished for answer in answers} == {False}


def test_vllms_own_form_and_json_mode(server: tuple[str, str], model: Path, tmp_path: Path) -> None:
    name, url = server
    if name != "vllm":
        pytest.skip("these are vLLM's")
    sampling = Sampling(temperature=1.0, max_new_tokens=200)
    for form in ("structured_outputs", "json_object"):
        answers, use = ask(recipe_at(url, model, structured_output=form), tmp_path, sampling, 3)
        assert use.refused == 0
        assert all(answer.text.lstrip().startswith("{") for answer in answers), form


def test_an_unknown_model_ends_at_once(server: tuple[str, str], model: Path, tmp_path: Path) -> None:
    name, url = server
    if name != "vllm":
        pytest.skip("it serves whatever it is asked for")
    recipe = recipe_at(url, model).model_copy()
    teacher = recipe.teacher.model_copy(update={"model": "another"})
    with pytest.raises(TeacherUnavailable, match="does not know the model another"):
        ask(recipe.model_copy(update={"teacher": teacher}), tmp_path, Sampling(temperature=1.0, max_new_tokens=20), 2)
