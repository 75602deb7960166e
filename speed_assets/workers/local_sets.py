"""Evaluation sets of one's own: a folder with `task.yaml` and data files, as an mteb task.

    name: Banking77              # how scores call it
    type: Classification         # STS, PairClassification, Classification, Clustering, Retrieval, Reranking
    splits: {train: train.tsv, test: test.tsv}    # of ranking tasks: files of relevance
    corpus: corpus.jsonl         # ranking only: `id`, `text`, and `title` where there is one
    queries: queries.jsonl       # ranking only: `id`, `text`
    candidates: candidates.tsv   # reranking only: `query_id`, `document_id`
    fields: {label: intent}      # columns that have other names than these (see `FIELDS`)
    eval_splits: [test]
    main_score: accuracy         # default: mteb's own for the type
    revision: "2024-05"          # for people; a digest of the folder is always part of the revision
    samples_per_label: 8         # classification: rows of each label that a classifier learns from (mteb: 8)
    experiments: 10              # classification, clustering: repetitions (mteb: 10)
    score_range: [0, 5]          # STS
    prompt: Find similar texts   # for models that take an instruction

Files are JSON lines (`.jsonl`), `.parquet`, `.csv`, or `.tsv` without quoting; `.csv.gz` and `.tsv.gz` work too.

Belongs here: reading such a folder into mteb's task classes. Not here: running them (`evaluate.py`).
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

import polars as pl
import yaml
from datasets import Dataset
from mteb.abstasks import (
    AbsTask,
    AbsTaskClassification,
    AbsTaskClustering,
    AbsTaskPairClassification,
    AbsTaskRetrieval,
    AbsTaskSTS,
)
from mteb.abstasks.task_metadata import TaskMetadata
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

DESCRIPTION = "task.yaml"
Kind = Literal["STS", "PairClassification", "Classification", "Clustering", "Retrieval", "Reranking"]
RANKING = ("Retrieval", "Reranking")

FIELDS: dict[str, tuple[str, ...]] = {
    "STS": ("sentence1", "sentence2", "score"),
    "PairClassification": ("sentence1", "sentence2", "label"),
    "Classification": ("text", "label"),
    "Clustering": ("text", "label"),
    "Retrieval": ("query_id", "document_id", "relevance"),
    "Reranking": ("query_id", "document_id", "relevance"),
}
"""Columns of a split by task type; `fields` of a description says where a file calls them otherwise."""

MAIN_SCORES = {
    "STS": "cosine_spearman",
    "PairClassification": "max_ap",
    "Classification": "accuracy",
    "Clustering": "v_measure",
    "Retrieval": "ndcg_at_10",
    "Reranking": "map_at_1000",
}


def _inside(name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError("a file of the set lies in its folder")
    return name


File = Annotated[str, AfterValidator(_inside)]


class Description(BaseModel):
    """What `task.yaml` says."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,80}$")]
    type: Kind
    splits: Annotated[dict[str, File], Field(min_length=1)]
    corpus: File | None = None
    queries: File | None = None
    candidates: File | None = None
    fields: dict[str, str] = {}
    eval_splits: tuple[str, ...] = ("test",)
    main_score: str | None = None
    revision: str | None = None
    samples_per_label: Annotated[int, Field(ge=1)] = 8
    experiments: Annotated[int, Field(ge=1)] = 10
    score_range: tuple[float, float] = (0, 5)
    prompt: str | None = None
    languages: tuple[str, ...] = ("eng-Latn",)
    description: str = ""
    licence: str | None = None

    @model_validator(mode="after")
    def _whole(self) -> Description:
        needed = list(self.eval_splits) + ["train"] * (self.type == "Classification")
        missing = [f"splits.{name}" for name in needed if name not in self.splits]
        for field in ("corpus", "queries"):
            if (getattr(self, field) is None) == (self.type in RANKING):
                missing.append(f"{field} {'(a ranking task has one)' if self.type in RANKING else '(only for ranking)'}")
        if (self.candidates is None) == (self.type == "Reranking"):
            missing.append("candidates (of reranking tasks, and of no others)")
        if missing:
            raise ValueError(f"missing or out of place: {', '.join(missing)}")
        return self

    def files(self) -> list[str]:
        """Every data file, once, in order of name."""
        named = [*self.splits.values(), self.corpus, self.queries, self.candidates]
        return sorted({name for name in named if name is not None})


def local_task(folder: Path, content: str) -> AbsTask:
    """The task in `folder`, its data loaded; `content` is the digest of its files, the revision that scores carry.

    Raises ValueError that names folder, file and what is wrong.
    """
    described = read_description(folder)
    task = _BUILDERS[described.type](folder, described)
    short = content[:16]
    task.metadata.dataset["revision"] = f"{described.revision}-{short}" if described.revision else short
    return task


def read_description(folder: Path) -> Description:
    """`task.yaml` of a folder, checked. Raises ValueError."""
    try:
        return Description.model_validate(yaml.safe_load((folder / DESCRIPTION).read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"evaluation set {folder}: {DESCRIPTION} cannot be read: {error}") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"evaluation set {folder}: {DESCRIPTION}: {where} {first['msg']}".replace(": :", ":")) from None


def _metadata(folder: Path, described: Description) -> TaskMetadata:
    for name in described.files():
        if not (folder / name).is_file():
            raise ValueError(f"evaluation set {folder}: there is no file {name}")
    return TaskMetadata(
        name=described.name,
        description=described.description or described.name,
        dataset={"path": f"local/{described.name}", "revision": described.revision or "local"},
        type=described.type,
        category="t2c" if described.type == "Classification" else "t2t",
        eval_splits=list(described.eval_splits),
        eval_langs=list(described.languages),
        main_score=described.main_score or MAIN_SCORES[described.type],
        prompt=described.prompt,
    )


def _task(base: type[AbsTask], folder: Path, described: Description, dataset: dict[str, Any], **settings: Any) -> AbsTask:
    task = type(described.name, (base,), {"metadata": _metadata(folder, described), **settings})()
    task.dataset = {"default": dataset}
    task.data_loaded = True
    return task


def _splits(folder: Path, described: Description) -> dict[str, pl.DataFrame]:
    return {split: _read(folder, name, described, FIELDS[described.type]) for split, name in described.splits.items()}


def _read(
    folder: Path, name: str, described: Description, columns: tuple[str, ...], optional: tuple[str, ...] = ()
) -> pl.DataFrame:
    """A file's rows under our names for its columns. Raises ValueError for what is missing or empty."""
    file, where = folder / name, f"evaluation set {folder}: {name}"
    plain = name.removesuffix(".gz")
    try:
        if plain.endswith(".parquet"):
            frame = pl.read_parquet(file)
        elif plain.endswith(".jsonl"):
            frame = pl.read_ndjson(file, infer_schema_length=None)
        elif plain.endswith(".csv"):
            frame = pl.read_csv(file, infer_schema=False)
        elif plain.endswith(".tsv"):
            frame = pl.read_csv(file, separator="\t", quote_char=None, infer_schema=False)
        else:
            raise ValueError(f"{where}: known are .jsonl, .parquet, .csv and .tsv")
    except (OSError, pl.exceptions.PolarsError) as error:
        raise ValueError(f"{where} cannot be read: {error}") from None
    there = {ours: described.fields.get(ours, ours) for ours in (*columns, *optional)}
    missing = [there[ours] for ours in columns if there[ours] not in frame.columns]
    if missing:
        raise ValueError(f"{where} has no column {', '.join(missing)}: it has {', '.join(frame.columns)} (see `fields`)")
    frame = frame.select(pl.col(theirs).alias(ours) for ours, theirs in there.items() if theirs in frame.columns)
    if frame.is_empty():
        raise ValueError(f"{where} has no rows")
    holes = [column for column in columns if frame[column].null_count()]
    if holes:
        raise ValueError(f"{where} has rows without {', '.join(holes)}")
    return frame


def _numbers(frame: pl.DataFrame, column: str, where: str) -> list[float]:
    values = frame[column].cast(pl.Float64, strict=False)
    if values.null_count() or not values.is_finite().all():
        raise ValueError(f"{where}: {column} holds something that is not a number")
    return values.to_list()


def _sts(folder: Path, described: Description) -> AbsTask:
    data = {
        split: Dataset.from_dict(
            {
                "sentence1": frame["sentence1"].to_list(),
                "sentence2": frame["sentence2"].to_list(),
                "score": _numbers(frame, "score", f"evaluation set {folder}, {split}"),
            }
        )
        for split, frame in _splits(folder, described).items()
    }
    low, high = described.score_range
    return _task(AbsTaskSTS, folder, described, data, min_score=low, max_score=high)


def _pair_classification(folder: Path, described: Description) -> AbsTask:
    data = {}
    for split, frame in _splits(folder, described).items():
        labels = _numbers(frame, "label", f"evaluation set {folder}, {split}")
        if set(labels) - {0.0, 1.0}:
            raise ValueError(f"evaluation set {folder}, {split}: a label of a pair is 0 or 1")
        pairs = {side: frame[side].to_list() for side in ("sentence1", "sentence2")}
        data[split] = Dataset.from_dict({**pairs, "labels": [int(label) for label in labels]})
    return _task(AbsTaskPairClassification, folder, described, data)


def _labelled(folder: Path, described: Description, text: str, label: str) -> dict[str, Dataset]:
    """Texts with numbered labels; the numbers follow the labels' order over all splits."""
    frames = _splits(folder, described)
    names = sorted({str(value) for frame in frames.values() for value in frame["label"]})
    numbers = {name: number for number, name in enumerate(names)}
    return {
        split: Dataset.from_dict(
            {text: frame["text"].to_list(), label: [numbers[str(value)] for value in frame["label"]]}
        )
        for split, frame in frames.items()
    }


def _classification(folder: Path, described: Description) -> AbsTask:
    data = _labelled(folder, described, "text", "label")
    repeats = {"samples_per_label": described.samples_per_label, "n_experiments": described.experiments}
    return _task(AbsTaskClassification, folder, described, data, **repeats)


def _clustering(folder: Path, described: Description) -> AbsTask:
    """Every text is embedded; a repetition clusters as many as there are, drawn with replacement."""
    data = _labelled(folder, described, "sentences", "labels")
    most = max(len(data[split]) for split in described.eval_splits)
    settings = {"max_fraction_of_documents_to_embed": None, "max_documents_per_cluster": min(16_384, most)}
    return _task(AbsTaskClustering, folder, described, data, n_clusters=described.experiments, **settings)


def _ranking(folder: Path, described: Description) -> AbsTask:
    assert described.corpus is not None
    assert described.queries is not None
    plain = described.model_copy(update={"fields": {}})  # `fields` is for relevance; these names are fixed
    corpus = _read(folder, described.corpus, plain, ("id", "text"), ("title",)).cast({"id": pl.String})
    if "title" not in corpus.columns:
        corpus = corpus.with_columns(title=pl.lit(""))
    corpus = corpus.with_columns(pl.col("title").fill_null(""))
    queries = _read(folder, described.queries, plain, ("id", "text")).cast({"id": pl.String})
    candidates = None
    if described.candidates:
        listed = _read(folder, described.candidates, described, ("query_id", "document_id"))
        candidates = _grouped(listed)
    data = {}
    for split, frame in _splits(folder, described).items():
        grades = [int(grade) for grade in _numbers(frame, "relevance", f"evaluation set {folder}, {split}")]
        relevant: dict[str, dict[str, int]] = {}
        for query, document, grade in zip(frame["query_id"], frame["document_id"], grades, strict=True):
            relevant.setdefault(str(query), {})[str(document)] = grade
        unknown = set(relevant) - set(queries["id"])
        if unknown:
            raise ValueError(f"evaluation set {folder}, {split}: no query has the id {sorted(unknown)[0]!r}")
        asked = queries.filter(pl.col("id").is_in(list(relevant)))
        data[split] = {
            "corpus": Dataset.from_list(corpus.select("id", "title", "text").to_dicts()),
            "queries": Dataset.from_list(asked.select("id", "text").to_dicts()),
            "relevant_docs": relevant,
            "top_ranked": candidates and {query: candidates[query] for query in relevant if query in candidates},
        }
    return _task(AbsTaskRetrieval, folder, described, data)


def _grouped(listed: pl.DataFrame) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for query, document in listed.select("query_id", "document_id").iter_rows():
        found.setdefault(str(query), []).append(str(document))
    return found


_BUILDERS = {
    "STS": _sts,
    "PairClassification": _pair_classification,
    "Classification": _classification,
    "Clustering": _clustering,
    "Retrieval": _ranking,
    "Reranking": _ranking,
}
