"""Every text of the evaluation sets, for decontamination, and which sets in folders are scored.

Belongs here: the microworld's texts, and finding descriptions and texts (JSON lines, Parquet, CSV or TSV, also gzipped)
in a folder. Not here: what is done with them (`domain/contamination.py`, `workers/local_sets.py`).
"""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from resources.store import ASIDE
from speed_assets.domain.local_sets import DESCRIPTION, read_description
from speed_assets.microworld.evaluation import evaluation_sets
from speed_assets.recipe import Evaluation, RecipeError

_READ = (".jsonl", ".json", ".parquet", ".tsv", ".csv")


Texts = Mapping[str, Sequence[str] | pl.Series]
"""Texts by evaluation task. Those of mteb's tasks are columns, since a list of them would not fit into memory."""


def known_texts(section: Evaluation) -> dict[str, list[str]]:
    """The texts of the sets that lie at hand, by evaluation task: the microworld's and those of local sets."""
    texts = local_texts(section.local)
    if section.microworld is not None:
        world = evaluation_sets(**section.microworld.model_dump())
        texts |= {f"microworld {task}": group for task, group in world.all_texts().items()}
    return texts


TASK_TEXTS = "task_texts.parquet"
"""Table (task, text) beside an artifact, of the mteb tasks whose texts its stage looked for (that of `evaluation_texts`)."""


def task_texts(artifact: Path) -> dict[str, pl.Series]:
    """The texts of mteb tasks that lie beside an artifact, by task; empty when there are none."""
    file = artifact / ASIDE / TASK_TEXTS
    if not file.exists():
        return {}
    groups = pl.read_parquet(file).partition_by("task", maintain_order=True)
    return {str(group["task"][0]): group["text"] for group in groups}


def local_texts(folders: Iterable[str]) -> dict[str, list[str]]:
    """{folder name: every text in its files}: all cells that are texts, in whatever column or list they stand.

    Labels and ids come along, and do no harm: texts under three words are never held against a row.
    Raises RecipeError for a folder without such files, and for a file that cannot be read.
    """
    found: dict[str, list[str]] = {}
    for folder in folders:
        path = Path(folder)
        files = [file for file in sorted(path.rglob("*")) if _kind(file) in _READ and file.is_file()]
        if not files:
            raise RecipeError(f"evaluation.local: no {', '.join(_READ)} file below {path}")
        texts: dict[str, None] = {}
        for file in files:
            try:
                texts.update(dict.fromkeys(_texts(file)))
            except (OSError, ValueError, csv.Error, pl.exceptions.PolarsError) as error:
                raise RecipeError(f"evaluation.local: {file} cannot be read: {error}") from error
        found[path.name if path.name not in found else str(path)] = list(texts)
    return found


def scored_folders(folders: Iterable[str]) -> list[Path]:
    """Those of the folders that describe a task. Raises RecipeError for a description that is wrong."""
    found = []
    for folder in folders:
        file = Path(folder) / DESCRIPTION
        if file.is_file():
            try:
                described = read_description(file.read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                raise RecipeError(f"evaluation.local: {file}: {error}") from None
            absent = [name for name in described.files() if not (file.parent / name).is_file()]
            if absent:
                raise RecipeError(f"evaluation.local: {file} names {', '.join(absent)}, which is not there")
            found.append(file.parent)
    return found


def _kind(file: Path) -> str:
    return Path(file.name.removesuffix(".gz")).suffix


def _texts(file: Path) -> Iterator[str]:
    kind = _kind(file)
    if kind == ".parquet":
        for column in pl.read_parquet(file).iter_columns():
            yield from _strings(column.to_list())
        return
    opened = gzip.open(file, "rt", encoding="utf-8") if file.suffix == ".gz" else file.open(encoding="utf-8")
    with opened as lines:
        if kind == ".json":
            yield from _strings(json.load(lines))
        elif kind == ".jsonl":
            for line in lines:
                yield from _strings(json.loads(line)) if line.strip() else ()
        elif kind == ".csv":
            yield from _strings(list(csv.reader(lines)))
        else:
            for line in lines:
                yield from line.rstrip("\n").split("\t")


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _strings(item)
