"""The texts of the mteb tasks that a recipe names, as far as mteb scores them, so that none of it is trained on.

Read are the splits that are scored; of classification tasks also the training rows that mteb draws for its classifiers
(8 of a label, ten times; the others are seen by no score); of a corpus the documents that are judged: the others answer
nothing, and there are millions of them. Labels and ids are no texts. The result names what is left out of a task's data.

Texts are read and written in blocks: the largest data sets hold more text than a list of it could.

Belongs here: reading tasks' data from where mteb reads them. Not here: folders (`resources/inputs/evaluation_sets.py`), and
what is done with the texts (`domain/contamination.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any

import mteb
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset
from mteb.abstasks import AbsTask, AbsTaskClassification
from mteb.abstasks.aggregated_task import AbsTaskAggregate

from speed_assets.workers.host import Report
from speed_assets.workers.jobs import Params, TaskTexts

BLOCK = 20_000
"""Rows read and texts written at once."""
_IDS = ("id", "_id", "query-id", "corpus-id")
_NO_TEXTS = {*_IDS, "label", "labels", "label_text", "label_name", "score", "lang", "language", "split"}
_GRADES = ("relevant_docs", "qrels", "top_ranked")
_COLUMNS = (
    "input_column_name",
    "input1_column_name",
    "input2_column_name",
    "column_names",
    "text_column_name",
    "human_summaries_column_name",
    "machine_summaries_column_name",
)
"""Attributes by which mteb's task classes name the columns that are embedded."""
SCHEMA = pa.schema([("task", pa.string()), ("text", pa.string())])


def run(params: Params, report: Report) -> dict[str, Any]:
    """Write the table (task, text) of all tasks and benchmarks named in `tasks` to `out`; a text once for each task.

    Args:
        params: of a job of kind `TaskTexts`.
        report: gets the progress, in tasks.

    Returns:
        {"tasks": {task: texts}, "texts", "unread": {task: splits that are not scored}}.

    Raises:
        ValueError: a task has no text.
    """
    job = TaskTexts.read(params)
    tasks = [task for task in flat(named_tasks(job.tasks)) if task.metadata.name not in job.left_out]
    unfinished = Path(job.out).with_suffix(".tmp")
    counts: dict[str, int] = {}
    unread: dict[str, list[str]] = {}
    with pq.ParquetWriter(unfinished, SCHEMA, compression="zstd") as writer:
        for number, task in enumerate(tasks):
            name = task.metadata.name
            report(number, len(tasks), f"reading {name}")
            if name in counts:  # in two benchmarks
                continue
            loaded = task.data_loaded
            if not loaded:
                _load(task)
            counts[name] = 0
            texts = _once(texts_of(task))
            while block := list(islice(texts, BLOCK)):
                writer.write_table(pa.table([pa.array([name] * len(block)), pa.array(block)], schema=SCHEMA))
                counts[name] += len(block)
            if not counts[name]:
                raise ValueError(f"{name} has no texts to look for: its data are of an unknown form")
            if splits := sorted(unscored_splits(task)):
                unread[name] = splits
            if not loaded:
                task.unload_data()
    report(len(tasks), len(tasks), "tasks")
    unfinished.replace(job.out)
    return {"tasks": counts, "texts": sum(counts.values()), "unread": unread}


def _load(task: AbsTask) -> None:
    try:
        task.load_data()
    except Exception as error:  # whatever hub, network and data set throw
        raise RuntimeError(
            f"the data of {task.metadata.name} cannot be loaded ({type(error).__name__}: {str(error)[:300]}): see that the "
            "hub can be reached, or name the task in evaluation.unsearched and its texts are not looked for"
        ) from error


def named_tasks(names: Iterable[str]) -> Iterator[AbsTask]:
    """The tasks of mteb benchmarks and tasks of these names."""
    for name in names:
        try:
            yield from mteb.get_benchmark(name)
        except KeyError:
            yield mteb.get_task(name)


def flat(tasks: Iterable[AbsTask]) -> Iterator[AbsTask]:
    """Tasks that have data: an aggregate (CQADupstackRetrieval) has none of its own, and its parts replace it."""
    for task in tasks:
        if task.is_aggregate:
            yield from flat(aggregate(task).tasks)
        else:
            yield task


def aggregate(task: AbsTask) -> AbsTaskAggregate:
    """The same task, which is one that is made of others."""
    assert isinstance(task, AbsTaskAggregate)
    return task


def texts_of(task: AbsTask) -> Iterator[str]:
    """Every text of a task that is scored; a text may come several times."""
    columns = _text_columns(task)
    for data in _subsets(task):
        for split in task.eval_splits:
            if split in data:
                yield from _strings(data[split], columns)
        if isinstance(task, AbsTaskClassification) and task.train_split in data:
            yield from _strings(_drawn(task, data[task.train_split]), columns)


def unscored_splits(task: AbsTask) -> set[str]:
    """Splits in a task's data that no score sees; of `train` of a classification task a part is seen, and it is named."""
    return {split for data in _subsets(task) for split in data if split not in task.eval_splits}


def _subsets(task: AbsTask) -> Iterator[Mapping[str, Any]]:
    """The data of each subset that is scored, by split."""
    for subset in task.hf_subsets:
        data: Any = task.dataset
        yield data.get(subset, data)


def _drawn(task: AbsTaskClassification, rows: Dataset) -> Dataset:
    """The training rows that mteb draws, as it draws them; with cross-validation, and of several labels, all."""
    if task.is_cross_validation or isinstance(rows[0][task.label_column_name], list):
        return rows
    order, drawn = None, set()
    for number in range(task.n_experiments):
        _, order, chosen = task._undersample_data(rows, number, order)
        drawn.update(chosen)
    return rows.select(sorted(drawn))


def _text_columns(task: AbsTask) -> set[str]:
    """The columns that are embedded, where the task names them; else none, and every column but labels and ids is read."""
    named: set[str] = set()
    for attribute in _COLUMNS:
        value = getattr(task, attribute, None) or ()
        parts = (
            [value]
            if isinstance(value, str)
            else [name for part in value for name in ([part] if isinstance(part, str) else part)]
        )
        named.update(parts)
    return named


def _strings(value: Any, columns: set[str]) -> Iterator[str]:
    """The strings of a split: rows, or corpus and queries."""
    if isinstance(value, Dataset):
        named = [name for name in value.column_names if name in columns]
        wanted = named or [name for name in value.column_names if name not in _NO_TEXTS]
        plain = value.select_columns(wanted).with_format(None)
        for start in range(0, len(plain), BLOCK):
            for cells in plain[start : start + BLOCK].values():
                yield from _cells(cells)
    elif isinstance(value, Mapping):
        judged = value.get("relevant_docs")
        for name, item in value.items():
            if name == "corpus" and isinstance(item, Dataset) and judged is not None:
                yield from _strings(_judged(item, judged), set())
            elif name not in _GRADES:
                yield from _strings(item, set()) if isinstance(item, Dataset | Mapping) else _cells(item)
    else:
        yield from _cells(value)


def _judged(corpus: Dataset, judged: Mapping[str, Mapping[str, int]]) -> Dataset:
    wanted = {str(document) for documents in judged.values() for document in documents}
    key = next(column for column in _IDS if column in corpus.column_names)
    ids = corpus.select_columns([key]).with_format(None)
    places = [
        start + place
        for start in range(0, len(ids), BLOCK)
        for place, document in enumerate(ids[start : start + BLOCK][key])
        if str(document) in wanted
    ]
    return corpus.select(places)


def _cells(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _cells(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _cells(item)


def _once(texts: Iterable[str]) -> Iterator[str]:
    """Each text the first time, without blank ones; remembered are 8 bytes of its digest, not the text."""
    seen: set[bytes] = set()
    for text in texts:
        if not text.strip():
            continue
        name = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        if name not in seen:
            seen.add(name)
            yield text
