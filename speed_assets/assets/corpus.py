"""Passages of the user's documents: read, cleaned of boilerplate, cut, and repeats folded.

Belongs here: the steps from files to the table. Not here: readers (`resources/inputs/corpus_files.py`), cutting
(`domain/passages.py`), rows that are written from passages (`writing.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl

from resources.inputs.base_models import MICROWORLD_BASE, resolve_model
from resources.inputs.corpus_files import Bounds, Columns, Reading, read_corpus
from speed_assets.assets.stage_run import StageRun
from speed_assets.domain.fingerprints import digest
from speed_assets.domain.grounded import draw_name, drawn_passages
from speed_assets.domain.near_duplicates import Similarity, near_duplicates
from speed_assets.domain.passages import Document, Dropped, boilerplate_lines, held_out, without_boilerplate
from speed_assets.domain.task_types import GROUNDED_TYPES
from speed_assets.recipe import Corpus, RecipeError

COLUMNS = (
    "passage_id", "document_id", "file", "title", "date", "piece", "text", "tokens", "held_out", "synthesis", "alignment",
)  # fmt: skip
_LOST = dict.fromkeys(("document_id", "file", "reason", "detail", "text"), pl.String)


def passages(run: StageRun[None]) -> dict[str, Any]:
    """The passages of the corpus. `held_out` marks those of documents that nothing is trained on; `synthesis` and `alignment`
    mark those that rows of that part are written from.

    Everything that is in no passage is in the quarantine with its file and reason: files that could not be read, lines that
    many documents share, pieces that are too short, and passages that repeat another.
    """
    section: Corpus = run.recipe.corpus
    reading = read_corpus(
        Path(section.path),
        Columns(**section.columns.model_dump()),
        section.encoding,
        Bounds(section.file_megabytes_max, section.documents_max, section.document_characters_max),
    )
    documents, lost = _cleaned(reading, section)
    cut, too_short = _cut(run, documents, section)
    about = pl.DataFrame(
        [(document.document_id, document.file, document.date) for document in documents],
        schema=dict.fromkeys(("document_id", "file", "date"), pl.String),
        orient="row",
    )
    rows = cut.rename({"place": "piece"}).join(about, on="document_id", how="left", maintain_order="left")
    rows, repeated = _folded(rows, section)
    rows = _drawn(run, rows, section)
    dropped = pl.concat([_table(reading.refused), _table(lost), too_short, repeated])
    run.write(rows.select(COLUMNS))
    run.quarantine(_numbered(dropped), pl.col("reason"), pl.col("file") + ": " + pl.col("detail"), pl.col("text"))
    trained = rows.filter(~pl.col("held_out"))
    parts = {
        part: digest(rows.filter(part).select("passage_id", "title", "text").rows())
        for part in ("synthesis", "alignment", "held_out")
    }
    return {
        "asked": rows.height + dropped.height,
        "documents": rows["document_id"].n_unique(),
        "documents_held_out": rows.filter("held_out")["document_id"].n_unique(),
        "passages_to_write_from": trained.height,
        "tokens": int(rows["tokens"].sum()),
        "dropped": dict(dropped["reason"].value_counts(sort=True).iter_rows()),
        "parts": parts,
    }


def _cleaned(reading: Reading, section: Corpus) -> tuple[list[Document], list[Dropped]]:
    """The documents without the lines that many share, and those lines."""
    lines = boilerplate_lines(reading.documents, section.boilerplate_share, section.boilerplate_documents_min)
    documents: list[Document] = []
    lost: list[Dropped] = []
    for document in reading.documents:
        if document.document_id in section.forget:
            lost.append(Dropped(document.document_id, document.file, "forgotten", "corpus.forget names it", ""))
            continue
        cleaned, taken = without_boilerplate(document, lines)
        documents.append(cleaned)
        lost += taken
    return documents, lost


def _cut(run: StageRun[None], documents: list[Document], section: Corpus) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(passages, pieces that are in none), cut in a worker by the tokenizer of the embedding model."""
    from speed_assets.workers import jobs  # its classes take a while, and definitions load without them

    folder = run.scratch / "cut"
    folder.mkdir(parents=True, exist_ok=True)
    files = {name: str(folder / f"{name}.parquet") for name in ("documents", "out", "dropped")}
    block = pl.List(pl.Struct({"text": pl.String, "heading": pl.Int64}))
    schema: dict[str, Any] = {**dict.fromkeys(("document_id", "file", "title", "date"), pl.String), "blocks": block}
    pl.DataFrame([asdict(document) for document in documents], schema=schema).write_parquet(files["documents"])
    base = run.unfingerprinted.embedding_model
    model, revision = (None, None) if base.base == "static" else resolve_model(base.base, base.revision)
    job = jobs.CutPassages(
        documents=files["documents"],
        out=files["out"],
        dropped=files["dropped"],
        tokens_max=section.tokens_max,
        tokens_min=section.tokens_min,
        titled=section.titled,
        tokenizer_file=str(MICROWORLD_BASE / "tokenizer.json") if model is None else None,
        model=model,
        revision=revision,
    )
    run.runner.run("cut_passages", job.to_json(), folder, run.progress)
    return pl.read_parquet(files["out"]), pl.read_parquet(files["dropped"])


def _folded(rows: pl.DataFrame, section: Corpus) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(passages of which none repeats another, those that do). The one with the lower id stays, whatever the order of files."""
    repeats = near_duplicates(rows["passage_id"], rows["text"], Similarity(**section.near_duplicates.model_dump()))
    found = rows.join(repeats, left_on="passage_id", right_on="row_id", how="left", maintain_order="left")
    gone = found.filter(pl.col("repeats").is_not_null())
    texts = rows.select(pl.col("passage_id").alias("repeats"), pl.col("text").alias("other"))
    gone = gone.join(texts, on="repeats", how="left", maintain_order="left").select(
        "document_id",
        "file",
        pl.when(pl.col("text") == pl.col("other"))
        .then(pl.lit("duplicate"))
        .otherwise(pl.lit("near_duplicate"))
        .alias("reason"),
        (pl.lit("repeats passage ") + pl.col("repeats")).alias("detail"),
        "text",
    )
    return found.filter(pl.col("repeats").is_null()).drop("repeats"), gone


def _drawn(run: StageRun[None], rows: pl.DataFrame, section: Corpus) -> pl.DataFrame:
    """The passages marked: held out, and drawn by stages of alignment and of synthesis."""
    seed = run.recipe.seed
    kept = pl.Series(
        "held_out", [held_out(one, seed, section.held_out) for one in rows["document_id"]], dtype=pl.Boolean
    )
    rows = rows.with_columns(kept)
    ids = rows.filter(~pl.col("held_out"))["passage_id"].to_list()
    drawn: dict[str, set[str]] = {"synthesis": set(), "alignment": set()}
    by_type = [(name, *asked) for name in GROUNDED_TYPES for asked in run.recipe.rows_wanted(name).items()]
    for task_type, stage, wanted in by_type:
        if wanted and not ids:
            raise RecipeError(
                f"corpus.path: {section.path} has no passage to write from: lower corpus.held_out or corpus.tokens_min, or add "
                "documents"
            )
        part = run.graph[stage].takes
        assert part is not None
        drawn[part] |= {one for one, _ in drawn_passages(ids, min(wanted, len(ids)), seed, draw_name(stage, task_type))}
    return rows.with_columns(pl.col("passage_id").is_in(list(found)).alias(part) for part, found in drawn.items())


def _table(dropped: Iterable[Dropped]) -> pl.DataFrame:
    return pl.DataFrame([asdict(piece) for piece in dropped], schema=_LOST)


def _numbered(dropped: pl.DataFrame) -> pl.DataFrame:
    """Dropped pieces with an id each: that of the document and the number of the piece."""
    number = pl.int_range(pl.len()).over("document_id").cast(pl.String)
    return dropped.with_columns(row_id=pl.col("document_id") + "#" + number)
