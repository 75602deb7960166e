"""A release in use: search with its model next to its base, its server, and whether a server gives its vectors.

Belongs here: the steps of those commands. Not here: HTTP (`resources/releases/served.py`, `workers/serve_embeddings.py`), printing.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from pydantic import ValidationError

from resources.compute.runner import Runner, worker_environment
from resources.inputs.base_models import resolve_model
from resources.inputs.corpus_files import Bounds, Columns, read_corpus
from resources.releases.releases import Release
from resources.releases.served import Drift, compared, sampled, served_vectors
from resources.store.manifests import integrity_problem
from resources.store.store import Store, StoreError
from speed_assets.domain.fingerprints import digest
from speed_assets.domain.graph import PASSAGES
from speed_assets.recipe import PROJECT, Corpus, RecipeError
from speed_assets.workers.jobs import CutPassages, EmbedTexts

Say = Callable[[str], None]
BLOCK = {"text": pl.String, "heading": pl.Int64}


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage that a model finds for a query."""

    rank: int
    """From 1."""
    score: float
    """Cosine similarity."""
    passage_id: str
    document_id: str
    title: str
    text: str
    other_rank: int | None
    """Its rank under the other model; None without one."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What the two models find for one query."""

    query: str
    release: tuple[Hit, ...]
    base: tuple[Hit, ...]


@dataclass(frozen=True, slots=True)
class Search:
    """The answers to all queries, and between which models."""

    passages: int
    base: str | None
    answers: tuple[Answers, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def intact(release: Release) -> Release:
    """The release, every byte of it as it was written. Raises StoreError for a damaged one."""
    if problem := integrity_problem(release.path):
        raise StoreError(f"release {release.short} is damaged: {problem}; make it again with `speed run`")
    if not (release.path / "model").is_dir():
        raise StoreError(f"release {release.short} has no folder model/: make it again with `speed run`")
    return release


def search(
    store: Store,
    runner: Runner,
    release: Release,
    queries: Sequence[str],
    corpus: Path | None,
    base: str | None,
    top: int,
) -> Search:
    """What the model of a release finds for queries, and what its base finds.

    Args:
        store: of the home, which has the passages of the release's corpus, and keeps vectors in `work/search`.
        runner: of the workers that embed.
        release: unverified.
        queries: texts.
        corpus: files or a table to search; None takes the passages that the release was made from.
        base: a model to compare with; None takes the base of the release. A base `static` has no vectors of its own: then
            there is no comparison.
        top: passages for each query.

    Raises:
        RecipeError: a query is empty, there is nothing to search, or no such base.
        StoreError: the release is damaged.
    """
    if not all(query.strip() for query in queries):
        raise RecipeError("a query is empty: write what to search for, in quotes where it has several words")
    folder = store.home / "work" / "search"
    folder.mkdir(parents=True, exist_ok=True)
    passages = _passages(store, runner, intact(release), corpus, folder)
    models: dict[str, tuple[str, str | None, str]] = {
        "release": (str(release.path / "model"), None, str(release.manifest["digest"]))
    }
    named = base or _base_of(release)
    if named != "static":
        try:
            place, revision = resolve_model(named, None if base else _recipe(release).get("revision"))
        except RecipeError as error:
            raise RecipeError(f"{error}; or name the base with --base") from None
        models["base"] = (place, revision, digest([named, revision]))
    ranked = {
        name: _ranked(runner, *model, passages["text"].to_list(), queries, folder) for name, model in models.items()
    }
    answers = []
    for number, query in enumerate(queries):
        both = {name: scores[number] for name, scores in ranked.items()}
        ranks = {name: _ranks(scores) for name, scores in both.items()}
        hits = {
            name: _hits(passages, scores, top, next((ranks[other] for other in ranks if other != name), None))
            for name, scores in both.items()
        }
        answers.append(Answers(query, hits["release"], hits.get("base", ())))
    return Search(passages.height, None if named == "static" else named, tuple(answers))


def _recipe(release: Release) -> dict[str, Any]:
    """The section `embedding_model` of a release's recipe."""
    section: dict[str, Any] | None = release.json("recipe.json").get("embedding_model")
    return section or {}


def _base_of(release: Release) -> str:
    named = _recipe(release).get("base")
    if not isinstance(named, str):
        raise StoreError(f"release {release.short} does not name its base: name it with --base")
    return named


def _passages(store: Store, runner: Runner, release: Release, corpus: Path | None, folder: Path) -> pl.DataFrame:
    """(passage_id, document_id, title, text) of what is searched."""
    columns = ("passage_id", "document_id", "title", "text")
    if corpus is not None:
        return _cut(runner, release, corpus, folder).select(columns)
    made: Any = release.json("manifest.json")["artifacts"]
    for name, artifact in made.items():
        if name.partition("/")[0] == PASSAGES:
            found = store.fetch(PASSAGES, artifact["fingerprint"])
            if found is not None:
                return found.table().select(columns)
            raise RecipeError(
                f"the passages of release {release.short} are not in this home: name the documents with --corpus"
            )
    raise RecipeError(f"release {release.short} was not made from documents: name a folder or a file with --corpus")


def _cut(runner: Runner, release: Release, corpus: Path, folder: Path) -> pl.DataFrame:
    """The passages of documents, cut as the release's recipe cuts them and by the tokenizer of its model."""
    stated: Any = release.json("recipe.json").get("corpus") or {}
    try:
        section = Corpus.model_validate({**stated, "path": str(corpus), "dataset": None})
    except (ValidationError, TypeError):
        section = Corpus(path=str(corpus))
    bounds = Bounds(section.file_megabytes_max, section.documents_max, section.document_characters_max)
    reading = read_corpus(corpus, Columns(**section.columns.model_dump()), section.encoding, bounds)
    files = {name: str(folder / f"{name}.parquet") for name in ("documents", "out", "dropped")}
    schema: dict[str, Any] = {
        **dict.fromkeys(("document_id", "file", "title", "date"), pl.String),
        "blocks": pl.List(pl.Struct(BLOCK)),
    }
    kept = [asdict(document) for document in reading.documents if document.document_id not in section.forget]
    pl.DataFrame(kept, schema=schema).write_parquet(files["documents"])
    model = release.path / "model"
    tokenizers = sorted(model.rglob("tokenizer.json"))
    job = CutPassages(
        documents=files["documents"],
        out=files["out"],
        dropped=files["dropped"],
        tokens_max=section.tokens_max,
        tokens_min=1,  # a short document is found, too
        titled=section.titled,
        tokenizer_file=str(tokenizers[0]) if tokenizers else None,
        model=str(model),
    )
    runner.run("cut_passages", job.to_json(), folder / "cut")
    passages = pl.read_parquet(files["out"])
    if passages.is_empty():
        raise RecipeError(f"--corpus {corpus} has no text to search")
    return passages


def _ranked(
    runner: Runner,
    model: str,
    revision: str | None,
    identity: str,
    texts: list[str],
    queries: Sequence[str],
    folder: Path,
) -> np.ndarray:
    """(queries, texts) cosine similarities. Vectors of texts are kept by model and texts."""
    kept = folder / f"{digest([identity, texts])[:24]}.npy"
    new = [] if kept.exists() else texts
    vectors = embedded(
        runner,
        model,
        revision,
        [*((text, "document") for text in new), *((query, "query") for query in queries)],
        folder / "embed",
    )[1]
    asked = _unit(vectors[len(new) :])
    if new:
        unfinished = kept.with_suffix(f".{os.getpid()}.part")
        with unfinished.open("wb") as file:
            np.save(file, _unit(vectors[: len(new)]))
        unfinished.replace(kept)
    try:
        stored = np.load(kept, allow_pickle=False)
    except (ValueError, EOFError):
        stored = np.empty(0)
    if stored.shape != (len(texts), asked.shape[1]):
        kept.unlink()
        raise StoreError(f"{kept} was damaged and is deleted: search again")
    scores: np.ndarray = asked @ stored.T
    return scores


def embedded(
    runner: Runner, model: str, revision: str | None, texts: Sequence[tuple[str, str]], folder: Path
) -> tuple[list[str], np.ndarray]:
    """Embed texts in a worker.

    Args:
        runner: of the worker.
        model: a folder, or a name on the hub.
        revision: of a model on the hub.
        texts: (text, side) of each; a side is `query` or `document`, and selects the prompt.
        folder: for the worker's files.

    Returns:
        The texts with the model's prompts before them, and their vectors as the model gives them: float32, (texts,
        dimensions).

    Raises:
        WorkerFailed: the worker ended without a result.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pl.DataFrame(list(texts), schema=["text", "side"], orient="row").write_parquet(folder / "texts.parquet")
    job = EmbedTexts(
        model=model, revision=revision, texts=str(folder / "texts.parquet"), out=str(folder / "vectors.parquet")
    )
    runner.run("embed_texts", job.to_json(), folder)
    found = pl.read_parquet(folder / "vectors.parquet")
    return found["shown"].to_list(), found["vector"].to_numpy()


def _unit(vectors: np.ndarray) -> np.ndarray:
    unit: np.ndarray = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return unit


def _order(scores: np.ndarray) -> np.ndarray:
    return np.argsort(-scores, kind="stable")


def _ranks(scores: np.ndarray) -> np.ndarray:
    """The rank of each passage, from 1."""
    ranks = np.empty(len(scores), dtype=np.int64)
    ranks[_order(scores)] = np.arange(1, len(scores) + 1)
    return ranks


def _hits(passages: pl.DataFrame, scores: np.ndarray, top: int, other: np.ndarray | None) -> tuple[Hit, ...]:
    return tuple(
        Hit(
            rank,
            round(float(scores[place]), 4),
            **passages.row(int(place), named=True),
            other_rank=None if other is None else int(other[place]),
        )
        for rank, place in enumerate(_order(scores)[:top], 1)
    )


def check_served(
    runner: Runner,
    home: Path,
    release: Release,
    url: str,
    *,
    model: str | None,
    sample: int,
    tolerance: float,
    key_variable: str | None,
    timeout_s: float,
) -> tuple[Drift, list[str]]:
    """How far a server's vectors are from those of a release, on a sample of its rows, or on plain sentences where it has none.

    The texts bring the prompts of the release's model with them, since few servers put any before a text.

    Args:
        runner: of the worker that embeds.
        home: for the worker's files.
        release: unverified.
        url, model, key_variable, timeout_s: as `served_vectors` takes them; a model of None is the release's name.
        sample: texts at most.
        tolerance: largest distance of a text, 0..2.

    Returns:
        The comparison, and the texts as they were sent.

    Raises:
        ServerFailed: the server gave no vectors that can be compared.
        StoreError: the release is damaged.
    """
    texts = sampled(intact(release), sample)
    shown, own = embedded(runner, str(release.path / "model"), None, texts, home / "work" / "check_served")
    return compared(served_vectors(url, model or release.short, shown, key_variable, timeout_s), own, tolerance), shown


def serve(release: Release, port: int) -> None:
    """Serve the release's model in the place of this process, which gets the environment of a worker. Does not return."""
    command = [sys.executable, "-m", "speed_assets.workers.serve_embeddings"]
    path = os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")]))
    environment = {**worker_environment(os.environ), "PYTHONPATH": path}
    sys.stdout.flush()
    os.execve(sys.executable, [*command, str(intact(release).path / "model"), release.short, str(port)], environment)  # noqa: S606
