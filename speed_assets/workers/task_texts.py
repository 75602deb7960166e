"""Every text of the mteb tasks that a recipe names, so that none of it is trained on.

Belongs here: reading tasks' data from where mteb reads them. Not here: folders (`resources/evaluation_texts.py`), and
what is done with the texts (`domain/contamination.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import mteb
import polars as pl
from datasets import Dataset
from mteb.abstasks import AbsTask

from speed_assets.workers.host import Report

_IDS = ("id", "_id", "query-id", "corpus-id")


def run(params: dict[str, Any], report: Report) -> dict[str, Any]:
    """Write the table (task, text) of all tasks and benchmarks named in `tasks` to `out`; a text once for each task."""
    tasks = list(named_tasks(params["tasks"]))
    tables = [pl.DataFrame(schema={"task": pl.String, "text": pl.String})]
    for number, task in enumerate(tasks):
        task.load_data()
        texts = list(dict.fromkeys(texts_of(task)))
        if not texts:
            raise ValueError(f"{task.metadata.name} has no texts to look for: its data are of a form that is not known")
        tables.append(pl.DataFrame({"task": task.metadata.name, "text": texts}))
        task.unload_data()
        report(number + 1, len(tasks), "tasks")
    table = pl.concat(tables)
    unfinished = Path(params["out"]).with_suffix(".tmp")
    table.write_parquet(unfinished)
    unfinished.replace(params["out"])
    return {"tasks": len(tasks), "texts": table.height}


def named_tasks(names: list[str]) -> Iterator[AbsTask]:
    """The tasks of mteb benchmarks and tasks of these names."""
    for name in names:
        try:
            yield from mteb.get_benchmark(name)
        except KeyError:
            yield mteb.get_task(name)


def texts_of(task: AbsTask) -> Iterator[str]:
    """Every string of a task's data, in whatever split, column or list it stands; of a corpus only the documents that
    are judged: the others answer nothing, and there are millions of them."""
    yield from _strings(task.dataset)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Dataset):
        for column in value.column_names:
            if column not in _IDS:
                for cell in value[column]:
                    yield from _strings(cell)
    elif isinstance(value, Mapping):
        judged = value.get("relevant_docs")
        for name, item in value.items():
            if name == "corpus" and isinstance(item, Dataset) and judged is not None:
                wanted = {str(document) for documents in judged.values() for document in documents}
                key = next(column for column in _IDS if column in item.column_names)
                places = [place for place, document in enumerate(item[key]) if str(document) in wanted]
                yield from _strings(item.select(places))
            elif name not in ("relevant_docs", "qrels", "top_ranked"):  # ids and grades
                yield from _strings(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _strings(item)
