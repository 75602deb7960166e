"""`speed doctor`: each planted trouble is found, named and nothing else with it; of a healthy home no trouble is reported."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from resources.ledger import accounts
from resources.ledger.ledger import Ledger
from speed_assets.orchestration import doctor
from speed_assets.orchestration.doctor import Finding, diagnosis, machine_probes, teacher_probes
from speed_assets.recipe import PROJECT
from tests.support import doctor_cases as plant
from tests.support.doctor_cases import KEY, Case, Teacher, planted
from tests.support.teacher_server import Faults
from tests.support.tiny import tiny_recipe


@dataclass(frozen=True)
class Trouble:
    """Something planted, and the finding that names it."""

    what: str
    finding: str
    status: str
    words: str
    """Pattern of the finding and of what mends it."""
    plants: Callable[[Case], Any]


def _home_in_a_file(case: Case) -> None:
    case.home.rmdir()
    case.home.write_text("no folder")


def _folder(case: Case, name: str, **files: bytes) -> str:
    (case.folder / name).mkdir()
    for file, content in files.items():
        (case.folder / name / file.replace("__", ".")).write_bytes(content)
    return str(case.folder / name)


def _of_teacher(*arguments: Any, **named: Any) -> Callable[[Case], None]:
    def plants(case: Case) -> None:
        case.teacher = lambda: Teacher(*arguments, **named)

    return plants


def _with_key(value: str, server: Faults | None = None) -> Callable[[Case], None]:
    def plants(case: Case) -> None:
        case.teacher_fields["key_variable"] = "PLANTED"
        case.patch.setenv("PLANTED", value)
        if server:
            case.teacher = lambda: Teacher(faults=server)

    return plants


def _redirects(case: Case) -> None:
    to = {"location": "https://elsewhere.example/v1/models"}
    case.endpoint = case.served({"/v1/models": (302, {}, to)}) + "/v1"


def _hub(replies: dict[str, Any], revision: str = "main") -> Callable[[Case], None]:
    def plants(case: Case) -> None:
        plant.from_hub(case, revision)
        case.hub({f"/api/models/{plant.GENERATOR}{path}": reply for path, reply in replies.items()})

    return plants


def _gated(case: Case) -> None:
    refused = (403, {"error": "gated"}, {"X-Error-Code": "GatedRepo"})
    _hub({"/revision/main": (200, plant.of_hub("model.safetensors", gated=True), {}), "/auth-check": refused})(case)


def _card(free_mib: int, driver: str = "580.65.06", rows: int = 16) -> Callable[[Case], None]:
    def plants(case: Case) -> None:
        plant.with_vllm(case, "0.32.0")
        plant.with_card(case, free_mib, driver)
        size = {"num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "hidden_size": 4096}
        name = _folder(case, "Model-7B", config__json=json.dumps(size).encode(), model__safetensors=b"")
        case.changes |= {"generator__base": name, "generator__dtype": "bfloat16", "generator__batch_rows": rows}

    return plants


def _little_memory(case: Case) -> None:
    plant.memory_of(case, 100_000)
    text = json.dumps({"text": "so many words of an evaluation set " * 2000}).encode()
    case.changes["evaluation"] = {"local": [_folder(case, "set", rows__jsonl=(text + b"\n") * 120)]}


def _changed_model(case: Case) -> None:
    served = case.home / teacher_probes.FILE
    case.teacher = lambda: _Remembered(served)


class _Remembered(Teacher):
    """Another model answered under this name, some days ago."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self._file = file

    def _batch_call(self, *arguments: Any) -> tuple[int, Any]:
        recipe = Case(self._file.parent, pytest.MonkeyPatch()).recipe(self.url)
        entry = {"at": 0, "good": True, "served": "model-of-may"}
        self._file.write_text(json.dumps({teacher_probes._section(recipe): entry}))
        return super()._batch_call(*arguments)


def _damaged_set(case: Case) -> None:
    folder = case.folder / "set"
    (folder / "qrels").mkdir(parents=True)
    (folder / "corpus.jsonl").write_text('{"_id": "1", "text": "a b c"}\n')
    (folder / "queries.jsonl").write_text("garbage\n")
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq\t1\t1\n")
    case.changes.update(evaluation={"local": [str(folder)]})


def _judged(*rows: str) -> Callable[[Case], None]:
    """A set in BEIR's layout with one document, one query and these judgements."""

    def plants(case: Case) -> None:
        _damaged_set(case)
        (case.folder / "set" / "queries.jsonl").write_text('{"_id": "q", "text": "a"}\n')
        (case.folder / "set" / "qrels" / "test.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *rows, ""]))

    return plants


def _no_weights(case: Case) -> None:
    folder = case.folder / "mine"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    case.changes.update(embedding_model__base=str(folder))


TROUBLES = [
    Trouble("no topic file", "topics", "error", "there is no file .*--topics", lambda c: c.changes.update(topics__file="gone.txt")),
    Trouble("topic file is binary", "topics", "error", "binary.*topics.file", lambda c: c.changes.update(topics__file=c.file("t", b"\x7fELF\0\1" * 40))),
    Trouble("too few topics", "topics", "error", "1 usable topics.*at_least", lambda c: c.changes.update(topics__file=c.file("t", b"Arts/Music\n"), topics__alignment=None)),
    Trouble("no prompt file", "prompts", "error", "there is no file.*prompts.file", lambda c: c.changes.update(prompts__file="/gone.yaml")),
    Trouble("key is not set", "key", "error", "no such variable.*export PLANTED", lambda c: c.teacher_fields.update(key_variable="PLANTED")),
    Trouble("key with a line break", "key", "error", "sent in a header.*PLANTED", _with_key("sk-planted\nkey")),
    Trouble("a header's variable is not set", "key", "error", "names HEADER.*dialect.headers", lambda c: c.teacher_fields.update(dialect={"headers": {"X-Team": "HEADER"}})),
    Trouble("key is refused", "endpoint", "error", "refuses the key in PLANTED.*teacher.key_variable", _with_key(KEY, Faults(key="other"))),
    Trouble("nothing listens", "endpoint", "error", "does not answer.*start it", lambda c: setattr(c, "endpoint", "http://127.0.0.1:9/v1")),
    Trouble("the endpoint redirects", "endpoint", "error", "redirects to https://elsewhere.example.*teacher.endpoint", _redirects),
    Trouble("nothing to pay with", "answer", "error", "no money left.*the account", _of_teacher(status=429)),
    Trouble("the model is not there", "answer", "error", "does not know the model m.*teacher.model", _of_teacher(faults=Faults(unknown_model=True))),
    Trouble("the model is not listed", "server", "warning", "does not list m; it lists other.*teacher.model", _of_teacher(listed=("other",))),
    Trouble("the key may not list models", "server", "warning", "list of models: .*Missing scopes.*teacher.key_variable", _of_teacher(listed=403)),
    Trouble("the form is not enforced", "structured output", "warning", "not enforced.*tool_call", _of_teacher("anthropic")),
    Trouble("another model answers", "model behind", "warning", "answers as m, and answered as model-of-may", _changed_model),
    Trouble("clocks differ", "server clock", "warning", "60 minutes behind the server", lambda c: plant.dated(c, 3600)),
    Trouble("the hub has no such model", "model", "error", "no model owner/Model-7B.*generator.base", _hub({})),
    Trouble("the model is gated", "model", "error", "gated: this account.*HF_TOKEN", _gated),
    Trouble("no safetensors", "model", "warning", "no safetensors.*generator.base", _hub({"/revision/main": (200, plant.of_hub("pytorch_model.bin"), {})})),
    Trouble("offline, and not in the cache", "model", "error", "HF_HUB_OFFLINE", plant.from_hub),
    Trouble("a package is not installed", "model", "error", "pip install", lambda c: c.changes.update(generator__base="package:no-such-model")),
    Trouble("no engine's Python", "engine", "error", "no program.*engine_python", lambda c: (plant.with_card(c, 140_000), c.changes.update(generator__engine="vllm_server"), c.patch.setenv("SPEED_ENGINE_PYTHON", "/gone/python"))),
    Trouble("the engine has no vLLM", "engine", "error", "has no vLLM.*make", lambda c: (plant.with_vllm(c, None), plant.with_card(c, 140_000))),
    Trouble("another vLLM", "engine", "warning", "vLLM 0.9.1; .*pip install", lambda c: (plant.with_vllm(c, "0.9.1"), plant.with_card(c, 140_000))),
    Trouble("no GPU", "gpu", "warning", "shows no GPU.*nvidia-smi", lambda c: plant.with_vllm(c, "0.32.0")),
    Trouble("the card is taken", "gpu", "error", "14 GB.*can be used.*nvidia-smi", _card(9_000)),
    Trouble("the cache does not fit", "gpu", "warning", "rows are computed twice.*batch_rows: ", _card(40_000, rows=1024)),
    Trouble("an old driver", "cuda", "error", "driver 525.* too old", _card(140_000, "525.60.13")),
    Trouble("a full disk", "disk", "error", "make room", lambda c: plant.with_disk(c, 100_000)),
    Trouble("little memory", "memory", "warning", "index of the evaluation texts.*unsearched", _little_memory),
    Trouble("no evaluation folder", "evaluation", "error", "there is no folder .*evaluation.local", lambda c: c.changes.update(evaluation={"local": ["/gone/set"]})),
    Trouble("an evaluation folder is damaged", "evaluation", "error", "queries.jsonl.*evaluation.local", _damaged_set),
    Trouble("a judgement points nowhere", "evaluation", "error", "1 of 2 judgements point nowhere: no document has the id '9'.*evaluation.local", _judged("q\t1\t1", "q\t9\t1")),
    Trouble("nothing is relevant", "evaluation", "warning", "1 query has no relevant document.*evaluation.local", _judged("q\t1\t0")),
    Trouble("a model's folder without weights", "model", "error", "holds no weights.*embedding_model.base", _no_weights),
    Trouble("no such task", "mteb tasks", "error", "no task or benchmark NoSuchTask.*evaluation.tasks", lambda c: c.changes.update(evaluation={"tasks": ["NoSuchTask"]})),
    Trouble("no price for the model", "prices", "warning", "price of m is not known.*money.prices.models.m", lambda c: c.changes.update(money={"prices": {"version": "v", "models": {"other": {}}}})),
    Trouble("batches that the server has not", "batches", "error", "anthropic takes no batch files.*calls.mode: online", lambda c: (c.teacher_fields.update(dialect={"preset": "anthropic"}), c.changes.update(calls={"mode": "batch"}), setattr(c, "teacher", lambda: Teacher("openai")))),
    Trouble("the home is a file", "home", "error", "is a file", _home_in_a_file),
    Trouble("anybody may write the home", "home", "warning", "changed by everybody.*chmod o-w", lambda c: c.home.chmod(0o777)),
    Trouble("a clock behind the home", "clock", "warning", "behind the newest file", lambda c: os.utime(c.file("home/f", b""), (time.time() + 9000,) * 2)),
    Trouble("the generator's server is down", "ports", "error", "nothing listens at http://127.0.0.1:9/v1", lambda c: c.changes.update(generator__engine="vllm_server", generator__endpoint="http://127.0.0.1:9/v1")),
    Trouble("a locale of one language", "locale", "warning", "LC_ALL=C.UTF-8", lambda c: c.patch.setattr(machine_probes.locale, "getpreferredencoding", lambda _b: "ISO-8859-1")),
]  # fmt: skip


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: trouble.what)
def test_a_planted_trouble_is_found_and_nothing_else(
    trouble: Trouble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with planted(tmp_path, monkeypatch, trouble.plants) as (case, server):
        recipe = case.recipe(server.url)
        started = time.monotonic()
        found = doctor.diagnose(recipe, case.home)
        assert time.monotonic() - started < 20
        wrong = [finding for finding in found if finding.status != "ok"]
        assert [(finding.name, finding.status) for finding in wrong] == [(trouble.finding, trouble.status)], wrong
        assert re.search(trouble.words, doctor.in_words(wrong[0])), wrong
        assert wrong[0].mend
        assert server.asked <= 1
        text = "\n".join(doctor.as_text(found))
        assert max(map(len, text.splitlines())) <= 80
        assert "sk-planted" not in text + json.dumps(doctor.as_json(found))


def test_a_server_that_refuses_one_token_is_asked_for_sixteen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with planted(tmp_path, monkeypatch, _of_teacher(least=16)) as (case, server):
        found = doctor.diagnose(case.recipe(server.url), case.home)
        assert [finding for finding in found if finding.status != "ok"] == []
        assert server.asked == 1


@pytest.mark.parametrize("species", ["openai", "openai_reasoning", "gemini", "vllm", "lm_studio"])
def test_of_a_healthy_home_no_trouble_is_reported(
    species: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with planted(tmp_path, monkeypatch, _of_teacher(species)) as (case, server):
        recipe = case.recipe(server.url)
        found = doctor.diagnose(recipe, case.home)
        assert [finding for finding in found if finding.status != "ok"] == []
        assert {"answer", "server", "structured output", "disk", "home"} <= {finding.name for finding in found}
        assert server.asked == 1
        costs = accounts.cost_report(Ledger.at(case.home))
        assert [(entry["asset"], entry["calls"]) for entry in costs["by"]["asset"]] == [("doctor", 1)], "booked"
        doctor.diagnose(recipe, case.home)
        assert server.asked == 1, "not asked again within hours"
        free = doctor.diagnose(recipe, case.home, network=False)
        assert [finding for finding in free if finding.status != "ok"] == []
        assert len(server.bodies) == 1 + len(server.refused)


def test_the_free_part_takes_no_time_and_asks_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with planted(tmp_path, monkeypatch, lambda _case: None) as (case, server):
        recipe = case.recipe(server.url)
        doctor.diagnose(recipe, case.home, network=False)
        started = time.process_time()
        doctor.diagnose(recipe, case.home, network=False)
        assert time.process_time() - started < 0.3
        assert not server.bodies


def test_the_microworld_asks_nobody(tmp_path: Path) -> None:
    recipe = tiny_recipe()
    assert [finding for finding in doctor.diagnose(recipe, tmp_path) if finding.status != "ok"] == []


def test_a_recipe_that_cannot_be_read_is_a_finding(tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text("name: x\nfoo: 1\n")
    found = doctor.examine(str(tmp_path / "broken.yaml"), None, tmp_path)
    assert [(finding.name, finding.status) for finding in found] == [("recipe", "error")]
    assert "foo: unknown field" in found[0].line


def test_a_probe_that_breaks_or_hangs_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> list[Finding]:
        raise ZeroDivisionError("by zero")

    def hanging(*_: Any) -> list[Finding]:
        time.sleep(30)
        return []

    monkeypatch.setattr(machine_probes, "memory", broken)
    monkeypatch.setattr(machine_probes, "disk", hanging)
    monkeypatch.setattr(diagnosis, "SECONDS", 1.0)
    found = {finding.name: finding for finding in doctor.diagnose(tiny_recipe(), tmp_path, network=False)}
    assert "could not be checked (by zero)" in found["memory"].line
    assert "was not checked within 1 s" in found["disk"].line


def test_the_docs_list_every_trouble() -> None:
    text = (PROJECT / "docs" / "doctor.md").read_text()
    assert len(TROUBLES) >= 25
    missing = [
        trouble.what for trouble in TROUBLES if f"| {trouble.what} | `{trouble.finding}` {trouble.status} |" not in text
    ]
    assert not missing
