"""Passages of the user's documents: read, cleaned of boilerplate, cut, and repeats folded.

Belongs here: the steps from files to the table. Not here: readers (`resources/inputs/corpus_files.py`), cutting
(`domain/passages.py`), rows that are written from passages (`writing.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from resources.inputs.base_models import MICROWORLD_BASE, resolve_model
from resources.inputs.corpus_files import Bounds, Columns, Reading, read_corpus
from resources.inputs.hub_datasets import resolve_dataset, shown_name
from speed_assets.assets.stage_run import StageRun
from speed_assets.domain.fingerprints import digest
from speed_assets.domain.graph import ALIGNMENT
from speed_assets.domain.grounded import draw_name, drawn_passages
from speed_assets.domain.near_duplicates import Similarity, near_duplicates
from speed_assets.domain.passages import Document, Dropped, boilerplate_lines, held_out, without_boilerplate
from speed_assets.domain.task_types import GROUNDED_TYPES
from speed_assets.recipe import Corpus, RecipeError

COLUMNS = (
    "passage_id", "document_id", "file", "title", "date", "piece", "text", "tokens", "held_out", "synthesis", "alignment",
)  # fmt: skip
_LOST = dict.fromkeys(("document_id", "file", "reason", "detail", "text"), pl.String)


@dataclass(frozen=True, slots=True)
class _Source:
    """Where documents are, and the field of the recipe that says so."""

    path: Path
    field: str
    encoding: str
    named: str | None = None
    """What stands for the file's name: the name of a data set."""


def passages(run: StageRun[None]) -> dict[str, Any]:
    """The passages of the corpus. `held_out` marks those of documents that nothing is trained on; `synthesis` and `alignment`
    mark those that rows of that part are written from. Documents that are for the alignment alone (`corpus.alignment`) are a table of their own.

    Everything that is in no passage is in the quarantine with its file and reason: files that could not be read, lines that
    many documents share, pieces that are too short, and passages that repeat another.
    """
    section: Corpus = run.recipe.corpus
    source, about = _source(run, section)
    rows, dropped = _passages(run, section, source)
    aligned = None
    if section.alignment is not None:
        apart = _Source(Path(section.alignment), "corpus.alignment", section.encoding)
        aligned, lost = _passages(run, section, apart)
        dropped = pl.concat([dropped, lost.with_columns(file=pl.lit("corpus.alignment: ") + pl.col("file"))])
    rows, aligned = _drawn(run, rows, aligned, section)
    run.write(rows.select(COLUMNS))
    if aligned is not None:
        run.write(aligned.select(COLUMNS), ALIGNMENT)
    run.quarantine(_numbered(dropped), pl.col("reason"), pl.col("file") + ": " + pl.col("detail"), pl.col("text"))
    read = {"synthesis": rows, "alignment": rows if aligned is None else aligned, "held_out": rows}
    parts = {
        part: digest(frame.filter(part).select("passage_id", "title", "text").rows()) for part, frame in read.items()
    }
    return {
        "asked": rows.height + dropped.height,
        "documents": rows["document_id"].n_unique(),
        "documents_held_out": rows.filter("held_out")["document_id"].n_unique(),
        "passages_to_write_from": rows.filter(~pl.col("held_out")).height,
        "tokens": int(rows["tokens"].sum()),
        "dropped": dict(dropped["reason"].value_counts(sort=True).iter_rows()),
        "parts": parts,
        **about,
        **({} if aligned is None else {"alignment_documents": aligned["document_id"].n_unique()}),
    }


def _source(run: StageRun[None], section: Corpus) -> tuple[_Source, dict[str, Any]]:
    """(the documents, {"dataset": name, configuration, split and commit} where they are of a data set), which a worker loads."""
    dataset = section.dataset
    if dataset is None:
        return _Source(Path(str(section.path)), "corpus.path", section.encoding), {}
    from speed_assets.workers import jobs  # its classes take a while, and definitions load without them

    folder = run.scratch / "dataset"
    folder.mkdir(parents=True, exist_ok=True)
    (name, commit), columns = resolve_dataset(dataset), section.columns
    job = jobs.LoadDataset(
        name=name,
        commit=commit,
        config=dataset.config,
        split=dataset.split,
        needed=tuple(dict.fromkeys(columns.text)),
        wanted=tuple(
            dict.fromkeys(one for one in (columns.id, columns.title, columns.date) if one not in columns.text)
        ),
        out=str(folder / "documents.parquet"),
    )
    shown = shown_name(dataset)
    loaded = run.runner.run("load_dataset", job.to_json(), folder, run.progress)
    if why := loaded.get("refused"):
        raise RecipeError(f"corpus.dataset: {shown}, split {dataset.split}: {why}")
    about = {"name": shown, "config": dataset.config, "split": dataset.split, "revision": commit}
    return _Source(Path(loaded["file"]), "corpus.dataset", "utf-8", shown), {"dataset": about}


def _passages(run: StageRun[None], section: Corpus, source: _Source) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(passages of the documents of a source, what of them is in none)."""
    reading = read_corpus(
        source.path,
        Columns(**section.columns.model_dump()),
        source.encoding,
        Bounds(section.file_megabytes_max, section.documents_max, section.document_characters_max),
        source.field,
        source.named,
    )
    documents, lost = _cleaned(reading, section)
    cut, too_short = _cut(run, documents, section, source.field)
    about = pl.DataFrame(
        [(document.document_id, document.file, document.date) for document in documents],
        schema=dict.fromkeys(("document_id", "file", "date"), pl.String),
        orient="row",
    )
    rows = cut.rename({"place": "piece"}).join(about, on="document_id", how="left", maintain_order="left")
    rows, repeated = _folded(rows, section)
    held = [held_out(one, run.recipe.seed, section.held_out) for one in rows["document_id"]]
    rows = rows.with_columns(pl.Series("held_out", held, dtype=pl.Boolean))
    return rows, pl.concat([_table(reading.refused), _table(lost), too_short, repeated])


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


def _cut(
    run: StageRun[None], documents: list[Document], section: Corpus, field: str
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(passages, pieces that are in none), cut in a worker by the tokenizer of the embedding model."""
    from speed_assets.workers import jobs  # its classes take a while, and definitions load without them

    folder = run.scratch / f"cut {field}"
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


def _drawn(
    run: StageRun[None], rows: pl.DataFrame, aligned: pl.DataFrame | None, section: Corpus
) -> tuple[pl.DataFrame, pl.DataFrame | None]:
    """Both tables of passages, marked where stages of alignment and of synthesis draw them."""
    sources = {"synthesis": rows, "alignment": rows if aligned is None else aligned}
    ids = {part: frame.filter(~pl.col("held_out"))["passage_id"].to_list() for part, frame in sources.items()}
    drawn: dict[str, set[str]] = {part: set() for part in sources}
    by_type = [(name, *asked) for name in GROUNDED_TYPES for asked in run.recipe.rows_wanted(name).items()]
    for task_type, stage, wanted in by_type:
        part = run.graph[stage].takes
        assert part is not None
        if wanted and not ids[part]:
            named = "corpus.path" if section.dataset is None else "corpus.dataset"
            field = named if part == "synthesis" or aligned is None else "corpus.alignment"
            raise RecipeError(
                f"{field}: no passage to write from: lower corpus.held_out or corpus.tokens_min, or add documents"
            )
        there = min(wanted, len(ids[part]))
        names = drawn_passages(ids[part], there, run.recipe.seed, draw_name(stage, task_type))
        drawn[part] |= {one for one, _ in names}
    here = drawn if aligned is None else drawn | {"alignment": set()}
    marked = rows.with_columns(pl.col("passage_id").is_in(list(found)).alias(part) for part, found in here.items())
    if aligned is None:
        return marked, None
    own = pl.col("passage_id").is_in(list(drawn["alignment"]))
    return marked, aligned.with_columns(synthesis=pl.lit(False), alignment=own)


def _table(dropped: Iterable[Dropped]) -> pl.DataFrame:
    return pl.DataFrame([asdict(piece) for piece in dropped], schema=_LOST)


def _numbered(dropped: pl.DataFrame) -> pl.DataFrame:
    """Dropped pieces with an id each: that of the document and the number of the piece."""
    number = pl.int_range(pl.len()).over("document_id").cast(pl.String)
    return dropped.with_columns(row_id=pl.col("document_id") + "#" + number)
