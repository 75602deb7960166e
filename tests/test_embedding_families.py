"""Embedding bases of several families: training, saving, `SentenceTransformer(path)`, mteb; with what tokens, exactly."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml

torch = pytest.importorskip("torch")
pytest.importorskip("mteb")
from sentence_transformers import SentenceTransformer  # noqa: E402
from sentence_transformers.base.modules import Transformer  # noqa: E402

from speed_assets.workers import embedding_base, evaluate  # noqa: E402
from speed_assets.workers.training_jobs import PretrainedBase  # noqa: E402
from tests.support import embedding_families as families  # noqa: E402
from tests.support.embedding_jobs import SETTINGS, settings_of, train  # noqa: E402

MAX_LENGTH = 120
TEMPLATE = "Instruct: {task}\nQuery: {query}"
SEARCH, SORT, SAME = "Find passages that answer.", "Tell what it is about.", "Retrieve semantically similar text."
ROWS = [
    ("retrieval", SEARCH, "How long does dough rise?", "Dough rises for an hour.", "Dough is made of flour."),
    ("retrieval", SEARCH, "Who plays the violin?", "She plays it every evening at home.", "A violin has four strings."),
    ("retrieval", SEARCH, "Where do boats lie?", "They lie in the harbour.", "Boats are made of wood."),
    ("classification", SORT, "The kettle boils over.", "kitchen", "harbour"),
    ("classification", SORT, "The anchor is up.", "harbour", "kitchen"),
    ("sts", SAME, "The cat sleeps on the warm stove.", "A cat is asleep on the stove.", "The stove is hot."),
    ("sts", SAME, "Rain fell.", "It was raining.", "The sun came out at noon."),
    ("matching_long", "Match the parts.", "First the tale of the old king.", "Then the tale of his son.", None),
]
NAMES = ("task_type", "task", "query", "positive", "negative")


@dataclass
class Family:
    """What is asked of one: prompts by task type (query, document), and the tokens around every text."""

    write: Callable[[Path], str]
    pooling: str = "mean"
    instruction: str | None = None
    own: dict[str, tuple[str, str]] = field(default_factory=dict)
    first: str | None = None
    last: str | None = None
    pad: str | None = None

    def prompts(self, task_type: str, task: str) -> tuple[str, str]:
        if self.instruction:
            prompt = self.instruction.removesuffix("{query}").replace("{task}", task)
            return prompt, prompt if task_type == "sts" else ""
        return self.own.get(task_type, self.own.get("retrieval", ("", "")))


WEB = families.QWEN_PROMPTS["query"]
FAMILIES = {
    "bert": Family(families.bert, first="[CLS]", last="[SEP]", pad="[PAD]"),
    "mistral": Family(families.mistral, "last", TEMPLATE, first="<s>", last="</s>", pad="</s>"),
    "llama3": Family(
        families.llama3, "last", TEMPLATE, first="<|begin_of_text|>", last="<|end_of_text|>", pad="<|end_of_text|>"
    ),
    "qwen3_embedding": Family(
        families.qwen3_embedding,
        "last",
        own={"retrieval": (WEB, ""), "sts": ("", ""), "classification": ("", "")},
        last="<|endoftext|>",
        pad="<|endoftext|>",
    ),
    "qwen3_embedding_instructed": Family(
        families.qwen3_embedding, "last", TEMPLATE, last="<|endoftext|>", pad="<|endoftext|>"
    ),
    "e5": Family(
        families.e5,
        own={"retrieval": ("query: ", "passage: "), "sts": ("", ""), "classification": ("", "passage: ")},
        first="[CLS]",
        last="[SEP]",
        pad="[PAD]",
    ),
    "embedding_gemma": Family(
        families.embedding_gemma,
        own={
            "retrieval": ("task: search result | query: ", "title: none | text: "),
            "sts": ("task: sentence similarity | query: ", "task: sentence similarity | query: "),
            "classification": ("task: classification | query: ", "title: none | text: "),
        },
        first="<bos>",
        last="<eos>",
        pad="<pad>",
    ),
}


@pytest.fixture(params=sorted(FAMILIES))
def family(request: pytest.FixtureRequest) -> Family:
    return FAMILIES[request.param]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Every batch that a model embeds from here on."""
    batches: list[dict[str, Any]] = []
    usual = Transformer.forward

    def listen(self: Any, features: Any, *args: Any, **kwargs: Any) -> Any:
        batches.append({name: features[name].clone() for name in ("input_ids", "attention_mask")})
        return usual(self, features, *args, **kwargs)

    monkeypatch.setattr(Transformer, "forward", listen)
    return batches


def trained(family: Family, folder: Path, **settings: Any) -> tuple[Path, dict[str, Any]]:
    """A model of the family, trained for two epochs on ROWS and saved."""
    rows = pl.DataFrame(ROWS, schema=dict.fromkeys(NAMES, pl.String), orient="row")
    rows.write_parquet(folder / "rows.parquet")
    defaults = SETTINGS | {
        "pooling": family.pooling,
        "instruction": family.instruction,
        "temperature": 0.05,
        "learning_rate": 1e-3,
        "batch_size": 4,
        "epochs": 2,
        "max_length": MAX_LENGTH,
        "micro_batch_size": 2,
    }
    result = train(
        {
            "base": {"kind": "pretrained", "name": family.write(folder / "base")},
            "settings": {**defaults, **settings},
            "seed": 1,
            "folder": str(folder / "job"),
            "checkpoint_minutes": 10.0,
            "triplets": str(folder / "rows.parquet"),
            "out": str(folder / "model"),
            "aside": str(folder / "aside"),
        },
        lambda done, total, note: None,
    )
    return folder / "model", result


def token_rows(batches: list[dict[str, Any]]) -> set[tuple[int, ...]]:
    """The tokens of every text, without pads."""
    return {
        tuple(ids[mask.bool()].tolist())
        for batch in batches
        for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)
    }


def sets_of_rows(folder: Path) -> list[dict[str, str]]:
    """Evaluation sets of the very texts that are trained on, so that both sides can be held against each other."""

    def write(name: str, files: dict[str, str], **said: Any) -> dict[str, str]:
        path = folder / name
        path.mkdir(parents=True)
        (path / "task.yaml").write_text(yaml.safe_dump({"name": name, **said}))
        for file, text in files.items():
            (path / file).write_text(text)
        return {"path": str(path), "digest": name * 16}

    def lines(rows: list[dict[str, Any]]) -> str:
        return "".join(json.dumps(row) + "\n" for row in rows)

    of = {kind: [row[1:] for row in ROWS if row[0] == kind] for kind in ("retrieval", "sts", "classification")}
    search = {
        "corpus.jsonl": lines([{"id": f"d{n}", "text": row[2]} for n, row in enumerate(of["retrieval"])]),
        "queries.jsonl": lines([{"id": f"q{n}", "text": row[1]} for n, row in enumerate(of["retrieval"])]),
        "test.jsonl": lines(
            [{"query_id": f"q{n}", "document_id": f"d{n}", "relevance": 1} for n in range(len(of["retrieval"]))]
        ),
    }
    similar = [
        {"sentence1": row[1], "sentence2": text, "score": score} for row in of["sts"] for text, score in zip(row[2:], (5, 2), strict=True)
    ]  # fmt: skip
    labelled = [{"text": row[1], "label": row[2]} for row in of["classification"]]
    return [
        write(
            "Search", search, type="Retrieval", prompt=SEARCH,
            corpus="corpus.jsonl", queries="queries.jsonl", splits={"test": "test.jsonl"},
        ),
        write("Similar", {"test.jsonl": lines(similar)}, type="STS", splits={"test": "test.jsonl"}),
        write(
            "Sorted", {"test.jsonl": lines(labelled)}, type="Classification", prompt=SORT,
            splits={"train": "test.jsonl", "test": "test.jsonl"}, experiments=1, samples_per_label=1,
        ),
    ]  # fmt: skip


def scored(model: Path, folder: Path) -> pl.DataFrame:
    params = {
        "models": [{"name": "model", "path": str(model), "digest": "1"}],
        "bm25": False,
        "microworld": None,
        "tasks": [],
        "local": sets_of_rows(folder / "sets"),
        "out": str(folder / "scores.parquet"),
        "samples": str(folder / "samples.parquet"),
        "plot": str(folder / "scores.png"),
        "cache": str(folder / "cache"),
        "batch_size": 8,
    }
    evaluate.run(params, lambda done, total, note: None)
    return pl.read_parquet(params["out"])


def test_training_and_evaluation_read_the_same_tokens(
    family: Family, tmp_path: Path, seen: list[dict[str, Any]]
) -> None:
    path, result = trained(family, tmp_path)
    in_training = list(seen)
    assert result["steps"] > 0
    model = SentenceTransformer(str(path))
    tokenizer = model.tokenizer
    expected: dict[str, set[tuple[int, ...]]] = {}
    for task_type, task, query, *documents in ROWS:
        prompts = family.prompts(task_type, task)
        texts = [prompts[0] + query, *(prompts[1] + text for text in documents if text)]
        expected.setdefault(task_type, set()).update(tuple(tokenizer(text)["input_ids"]) for text in texts)
    assert token_rows(in_training) == set().union(*expected.values())

    seen.clear()
    table = scored(path, tmp_path)
    in_evaluation = token_rows(seen)
    positives = {task_type: [r for r in ROWS if r[0] == task_type] for task_type in expected}
    wanted = set()
    for task_type in ("retrieval", "sts", "classification"):
        for _, task, query, positive, negative in positives[task_type]:
            prompts = family.prompts(task_type, task)
            shown = [prompts[0] + query]
            shown += [prompts[1] + positive] if task_type != "classification" else []  # labels are not embedded
            shown += [prompts[1] + str(negative)] if task_type == "sts" else []
            wanted.update(tuple(tokenizer(text)["input_ids"]) for text in shown)
    assert in_evaluation == wanted
    assert in_evaluation <= token_rows(in_training), "nothing is asked in another way than it was trained"

    asked = dict(table.select("task", "instruction").rows())
    for name, kind, task in (
        ("Search", "retrieval", SEARCH),
        ("Similar", "sts", SAME),
        ("Sorted", "classification", SORT),
    ):
        query, document = family.prompts(kind, task)
        both = f"{query or 'none'} | documents: {document}" if name == "Search" and document else query or "none"
        assert asked[name] == both


def test_texts_begin_once_end_in_the_end_token_and_pads_are_masked(family: Family, tmp_path: Path) -> None:
    path, _ = trained(family, tmp_path)
    model = SentenceTransformer(str(path))
    tokenizer = model.tokenizer
    assert tokenizer.pad_token == family.pad
    texts = ["tea", "A kettle. " * 80, "Boats lie in the harbour."]
    for side in ("right",) if family.first == "[CLS]" else ("left", "right"):  # BERT counts positions from the left
        tokenizer.padding_side = side
        batch = model.preprocess(texts)
        assert batch["input_ids"].shape[1] == MAX_LENGTH, "the long one is cut"
        for ids, mask in zip(batch["input_ids"], batch["attention_mask"].bool(), strict=True):
            real = tokenizer.convert_ids_to_tokens(ids[mask].tolist())
            assert set(tokenizer.convert_ids_to_tokens(ids[~mask].tolist())) <= {family.pad}
            assert real[-1] == family.last
            assert real.count(family.last) == 1
            if family.first:
                assert real[0] == family.first
                assert real.count(family.first) == 1
        alone = np.stack([model.encode(text) for text in texts])
        assert np.allclose(alone, model.encode(texts), atol=1e-4), "neighbours and pads change no vector"


def test_an_adapter_changes_the_vectors_and_leaves_no_trace(tmp_path: Path) -> None:
    family = FAMILIES["mistral"]
    path, _ = trained(family, tmp_path, lora={"r": 4, "alpha": 8, "dropout": 0.0}, epochs=4, learning_rate=1e-2)
    settings = settings_of(max_length=MAX_LENGTH, pooling="last", instruction=TEMPLATE)
    base = embedding_base.base_model(PretrainedBase(kind="pretrained", name=str(tmp_path / "base")), settings, 0)
    model = SentenceTransformer(str(path))
    assert not np.allclose(base.encode("tea"), model.encode("tea"), atol=1e-2)
    assert not [file for file in path.rglob("*") if "adapter" in file.name]


@pytest.mark.parametrize(
    ("taken", "pooling", "message"),
    [
        ({"eos_token": None, "unk_token": None}, "mean", "neither a pad nor an end token"),
        ({"eos_token": None}, "last", "its tokenizer has none|tokenizer has none"),
    ],
)
def test_a_tokenizer_that_cannot_do_it_is_refused_with_advice(
    tmp_path: Path, taken: dict[str, None], pooling: str, message: str
) -> None:
    folder = tmp_path / "base"
    families.mistral(folder)
    file = folder / "tokenizer_config.json"
    said = {name: value for name, value in json.loads(file.read_text()).items() if name not in taken}
    file.write_text(json.dumps(said))
    (folder / "special_tokens_map.json").unlink(missing_ok=True)
    family = Family(lambda _: str(folder), pooling)
    with pytest.raises(ValueError, match=message):
        trained(family, tmp_path)


def test_more_tokens_than_positions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="max_length=200 is more than the 128 positions"):
        trained(FAMILIES["bert"], tmp_path, max_length=200)


def test_a_tokenizer_that_is_saved_otherwise_than_it_was_trained_is_refused(tmp_path: Path) -> None:
    path, _ = trained(FAMILIES["mistral"], tmp_path)
    model = SentenceTransformer(str(path))
    families.llama3(tmp_path / "other")
    with pytest.raises(ValueError, match="the saved tokenizer reads"):
        embedding_base.saved_alike(model, tmp_path / "other")
