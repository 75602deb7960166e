"""What the fuzz draws, and who reads it: one target for each kind of input from outside.

Belongs here: valid inputs, ways to change them, calls of readers, the errors that these document. Not here: counting (`fuzz.py`).
"""

from __future__ import annotations

import contextlib
import copy
import gzip
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st

from resources.inputs.evaluation_sets import check_folder, local_texts, scored_folders
from resources.inputs.prompt_files import prompt_set
from resources.ledger.calls import TeacherRequest
from resources.releases import releases
from resources.store.manifests import MANIFEST_FILE, integrity_problems, manifest_text, read_manifest
from resources.store.store import Store, StoreError
from resources.teacher.chat import read_reply
from resources.teacher.unpacking import Unpacking, UnreadableBody
from speed_assets.domain.parsing import parse_record, parse_revision, parse_tasks, parse_verdict
from speed_assets.domain.prompts import PromptSet
from speed_assets.domain.topics import TopicError, read_topics, special_form
from speed_assets.recipe import Prompts, RecipeError, Teacher, load_recipe
from speed_assets.workers.journal import Journal, Output
from tests.support.small import small_data

ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1.5, 1e308, -0.0, 10**18, 10**30, 10**40, "", " ", "x", "é", "\x00", "\x1b]0;x\x07", "\u202e", "\u2028",
    "../../etc/passwd", "/etc/passwd", "/dev/zero", "~", "a" * 5_000, "null", "yes", "1e3", "0o17", "{topic}", "{x}", "sk-secret",
    "http://user:pw@host", [], {}, [[]], {"": ""}, [None], ["a", 1], {"a": {"a": {}}},
)  # fmt: skip
PIECES: tuple[bytes, ...] = (
    b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\r", b"\r\n", b"\t", b",", b";", b'"', b'""', b"'", b"[" * 200, b"{" * 200, b"]", b"}", b":", b": ",
    b"- ", b"? ", b"&a ", b"*a", b"<<: *a", b"!!python/object:os.system ", b"!", b"|", b">", b"#", b"%", b"---\n", b"\x1b[31m", b"\xe2\x80\xae",
    b"\xed\xa0\x80", b"../", b"/", b" > ", b"1" * 50, b"1e999", b"NaN", b"Infinity", b"-", b"0x", b"{topic}", b"{task}", b"{}", b"\x1f\x8b", b"PAR1",
    b"null", b"true", b"~", b"<think>", b"</think>", b"```json", b"x" * 3_000,
)  # fmt: skip


@dataclass(frozen=True)
class Target:
    """A kind of input.

    Attributes:
        name: As the command line names it.
        cases: Draws an input.
        read: Gives it to its readers, with an empty folder for files.
        documented: Errors that the readers document.
    """

    name: str
    cases: st.SearchStrategy[Any]
    read: Callable[[Any, Path], None]
    documented: tuple[type[Exception], ...]


@st.composite
def changed_bytes(draw: st.DrawFn, bases: Sequence[bytes]) -> bytes:
    """One of the bases with up to four changes, or bytes drawn from nothing."""
    kind = draw(st.integers(0, 19))
    if kind == 0:
        return draw(st.binary(max_size=200))
    if kind == 1:
        return draw(st.text(max_size=200)).encode("utf-8", "surrogatepass")
    text = draw(st.sampled_from(bases))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 40)))
        how = draw(st.integers(0, 4))
        if how == 0:
            text = text[:start] + text[end:]
        elif how == 1:
            text = text[:end] + text[start:end] * draw(st.integers(1, 30)) + text[end:]
        elif how == 2:
            text = text[:start] + draw(st.sampled_from(PIECES)) + text[start:]
        elif how == 3:
            text = text[:start] + draw(st.binary(min_size=1, max_size=8)) + text[end:]
        else:
            text = text[:start]
    return text


@st.composite
def changed_values(draw: st.DrawFn, base: Any) -> Any:
    """Plain values with up to three of them replaced, removed or added somewhere in the tree."""
    value = copy.deepcopy(base)
    for _ in range(draw(st.integers(1, 3))):
        node = value
        while isinstance(node, dict | list) and node:
            key = draw(st.sampled_from(sorted(node, key=str) if isinstance(node, dict) else range(len(node))))
            inner = node[key]
            if isinstance(inner, dict | list) and inner and draw(st.integers(0, 4)):
                node = inner
                continue
            how = draw(st.integers(0, 5))
            if how == 0:
                del node[key]
            elif how == 1 and isinstance(node, dict):
                node[draw(st.sampled_from(["x", "", "é", "../x", "<<"]))] = copy.deepcopy(draw(st.sampled_from(ODD)))
            else:
                node[key] = copy.deepcopy(draw(st.sampled_from(ODD)))
            break
    return value


def _as_yaml(value: Any) -> bytes:
    return yaml.safe_dump(value, allow_unicode=True, sort_keys=False).encode("utf-8", "surrogatepass")


def _as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _read_recipe(text: bytes, folder: Path) -> None:
    (folder / "x.yaml").write_bytes(text)
    recipe = load_recipe(folder / "x.yaml")
    for stage in recipe.graph().values():
        for partition in stage.task_types or (None,):
            recipe.part(stage, partition)


RECIPE = _as_yaml(small_data())

TOPICS = (
    b"Arts/Music\nArts/Film\n# a comment\nTea\n#MeToo\nAC/DC\n",
    b'topic\tn\n"Violins"\t1\nTea\t2\n',
    b'path,count\nArts/Music,3\n"Violins, cellos",4\n',
    b"topic;lang\nViolins;en\n",
    b"Arts > Music\nTea > Green > Sencha\n",
    "Café\nÜber/Straße\n".encode("latin-1"),
    gzip.compress(b"Arts/Music\nTea\n", mtime=0),
)


def _read_topics(raw: bytes, _folder: Path) -> None:
    read_topics(raw, max_levels=4, max_characters=200)
    special_form(raw)


DESCRIPTION = b"name: own\ntype: STS\nsplits: {test: test.tsv}\nscore_range: [0, 5]\nfields: {score: grade}\n"
EVALUATION: Mapping[str, bytes] = {
    "test.tsv": b"sentence1\tsentence2\tgrade\na text\tanother\t3.5\nmore\tof it\t0\n",
    "texts.csv": b'id,text\n1,"a, ""b"" c"\n2,more text\n',
    "lines.jsonl": b'{"_id": "1", "text": "some text", "title": ""}\n{"_id": "2", "text": ["a", {"b": "c"}]}\n',
    "all.json": b'[{"text": "a b", "n": 1}, {"text": "c d", "tags": ["x"]}]',
    "packed.jsonl.gz": gzip.compress(b'{"text": "packed"}\n' * 5, mtime=0),
    "corpus.jsonl": b'{"_id": "d1", "text": "a document"}\n',
    "queries.jsonl": b'{"_id": "q1", "text": "a query"}\n',
    "qrels/test.tsv": b"query-id\tcorpus-id\tscore\nq1\td1\t1\n",
    "table.parquet": b"PAR1" + b"\0" * 40 + b"PAR1",
    "task.yaml": DESCRIPTION,
}


@st.composite
def _evaluation(draw: st.DrawFn) -> dict[str, bytes]:
    """A folder of up to five files, of which one or two are changed."""
    names = draw(st.lists(st.sampled_from(sorted(EVALUATION)), min_size=1, max_size=5, unique=True))
    files = {name: EVALUATION[name] for name in names if name != "table.parquet"}
    for name in draw(st.lists(st.sampled_from(names), min_size=1, max_size=2, unique=True)):
        files[name] = draw(changed_bytes([EVALUATION[name]]))
    return files


def _read_evaluation(files: dict[str, bytes], folder: Path) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    problem = None
    for read in (
        lambda: check_folder.__wrapped__(str(folder), ()),
        lambda: local_texts([str(folder)]),
        lambda: scored_folders([str(folder)]),
    ):
        try:
            read()
        except RecipeError as error:
            problem = error
    if problem is not None:
        raise problem


FINGERPRINT = "a1" * 32
MANIFEST: dict[str, Any] = {
    "asset": "release",
    "partition": None,
    "fingerprint": FINGERPRINT,
    "digest": "b" * 64,
    "files": {"recipe.json": {"bytes": 2, "sha256": "c" * 64}, "model/weights.bin": {"bytes": 7, "sha256": "d" * 64}},
    "metadata": {"number": 1, "rows_released": 3, "scores": {"sts": 0.5}},
    "lineage": {"recipe": {"name": "offline"}, "inputs": {"embedding_model": "b" * 64}},
    "created": 1.0,
}


def _read_manifest(text: bytes, folder: Path) -> None:
    store = Store(folder / "home")
    release = store.folder("release", FINGERPRINT)
    (release / "model").mkdir(parents=True)
    (release / "recipe.json").write_text("{}")
    (release / "model" / "weights.bin").write_bytes(b"weights")
    (release / MANIFEST_FILE).write_bytes(text)
    list(integrity_problems(release))
    list(store.local_manifests("release", None))
    releases.broken_releases(store)
    for found in releases.list_releases(store):
        found.recipe  # noqa: B018 - reads a property
    with contextlib.suppress(StoreError):
        releases.roll_back(store, "offline", FINGERPRINT[:8])
    store.fetch("release", FINGERPRINT)
    read_manifest(text)


OUTPUT = {"position": 0, "output": "x", "prompt_tokens": 1, "output_tokens": 1, "finished": True, "error": None}
JOURNAL = b"".join(_as_json(OUTPUT | {"position": place}) + b"\n" for place in range(3))
EVENTS = (
    b'{"start": 1}\n{"begin": [0, 1, 2, 3]}\n{"crash": "SIGKILL", "under_way": [3]}\n{"start": 2}\n{"begin": [3]}\n'
)


def _read_journal(texts: tuple[bytes, bytes], folder: Path) -> None:
    for name, text in zip(("rows", "events"), texts, strict=True):
        (folder / f"job.{name}.jsonl").write_bytes(text)
    journal = Journal(folder, "job", "SIGKILL")
    journal.groups(10)
    journal.finish([Output(7, "y", 1, 1, True)])
    journal.table()
    journal.close()
    again = Journal(folder, "job")
    assert 7 in again.done, "what was written after damage is read"
    again.close()


ANSWER = '{"user_query": "how do violins sound", "positive_document": "warm and bright", "hard_negative_document": "cellos are low"}'
COMPLETION: dict[str, Any] = {
    "id": "x",
    "model": "m",
    "choices": [
        {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": ANSWER, "refusal": None}}
    ],
    "usage": {"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 0}},
}
ERROR = {
    "error": {"message": "no", "type": "x", "code": "model_not_found", "param": "temperature", "metadata": {"raw": "y"}}
}
ANSWERS = tuple(
    text.encode()
    for text in (
        ANSWER,
        f"<think>a draft {ANSWER}</think>{ANSWER}",
        f"```json\n{ANSWER}\n```",
        '["a task", "another"]',
        '{"choice": 1, "reason": "x"}',
    )
)
TEACHER = Teacher(engine="openai", model="m", endpoint="http://127.0.0.1:1/v1")
REQUEST = TeacherRequest("a prompt", "m", None, "here", {"temperature": 1.0, "top_p": 1.0, "max_new_tokens": 100})
STATUSES = (200, 201, 301, 307, 400, 401, 402, 403, 404, 408, 409, 413, 422, 429, 500, 501, 503, 529, 600, 0)


@st.composite
def _reply(draw: st.DrawFn) -> tuple[int, bytes, str, str | None, str]:
    """(status, body, encoding, location, text of an answer)."""
    base = draw(st.sampled_from([COMPLETION, ERROR]))
    body = draw(
        st.one_of(changed_values(base).map(_as_json), changed_bytes([_as_json(base), gzip.compress(_as_json(base))]))
    )
    text = draw(changed_bytes(ANSWERS)).decode("utf-8", "replace")
    status = draw(st.one_of(st.just(200), st.sampled_from(STATUSES)))
    location = draw(st.one_of(st.none(), st.sampled_from(["http://[::1", "//x", "http://u:p@h/v1?k=1", "\x00", "é"])))
    return status, body, draw(st.sampled_from(["", "gzip", "deflate", "br", "\x00"])), location, text


def _read_reply(drawn: tuple[int, bytes, str, str | None, str], _folder: Path) -> None:
    status, body, encoding, location, text = drawn
    read_reply(status, body, TEACHER, "sk-secret", REQUEST, location, 1.0)
    for task_type in ("retrieval", "sts", "classification"):
        parse_record(task_type, text)
    parse_revision("retrieval", text)
    parse_tasks(text, 3)
    parse_verdict(text, 2)
    unpacked = Unpacking(encoding, 100_000).part(body)
    read_reply(status, unpacked, TEACHER, "sk-secret", REQUEST, location, 1.0)


_FULL = dict(PromptSet.load("full").source)
PROMPTS = {
    name: _FULL[name] for name in ("version", "candidate", "again", "expand", "brainstorm", "judge") if name in _FULL
}


def _read_prompts(text: bytes, folder: Path) -> None:
    (folder / "prompts.yaml").write_bytes(text)
    prompts = prompt_set(Prompts(set="full", file=str(folder / "prompts.yaml")))
    prompts.brainstorm("retrieval", "Arts/Music {topic}", 3)
    prompts.judge("sts", "fish", ["a", "b"])
    for kind in ("brainstorm", "synthesis", "judge", "revise"):
        prompts.digest(kind, "retrieval")  # type: ignore[arg-type]
    prompts.expansion_digest()


TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        Target("recipe", st.one_of(changed_bytes([RECIPE]), changed_values(small_data()).map(_as_yaml)), _read_recipe, (RecipeError,)),
        Target("topics", changed_bytes(TOPICS), _read_topics, (TopicError,)),
        Target("evaluation", _evaluation(), _read_evaluation, (RecipeError,)),
        Target(
            "manifests",
            st.one_of(changed_values(MANIFEST).map(manifest_text), changed_bytes([manifest_text(MANIFEST)])),
            _read_manifest,
            (ValueError,),
        ),
        Target("journals", st.tuples(changed_bytes([JOURNAL]), changed_bytes([EVENTS])), _read_journal, ()),
        Target("replies", _reply(), _read_reply, (UnreadableBody,)),
        Target(
            "prompts", st.one_of(changed_bytes([_as_yaml(PROMPTS)]), changed_values(PROMPTS).map(_as_yaml)), _read_prompts, (RecipeError,)
        ),
    )
}  # fmt: skip
