"""A split of a data set, as a table of the columns that are read of it.

What a hub has prepared for this machine before stays in the cache of `datasets`, as its models do in theirs. Of a folder nothing is kept but the table.

Belongs here: the library `datasets`. Not here: commits and folders (`resources/inputs/hub_datasets.py`), documents
(`resources/inputs/corpus_files.py`).
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from datasets import Dataset, Json, load_dataset_builder
from datasets.exceptions import DatasetsError

from speed_assets.workers.host import Report
from speed_assets.workers.jobs import LoadDataset, Params

_HUB = "hf://datasets/"
"""Before a name it means a hub, whatever folder the worker may stand in."""


class _Refused(Exception):
    """What is asked for is not in the data set."""


def run(params: Params, report: Report) -> dict[str, Any]:
    """Load a split of a data set and write the columns that are named.

    Args:
        params: of a job of kind `LoadDataset`.
        report: gets the progress, in rows.

    Returns:
        {"file": the table}, or {"refused": what is wrong with what the recipe names}.
    """
    job = LoadDataset.read(params)
    prepared = Path(job.folder) / "prepared"
    report(0, 1, "data set")
    try:
        file = _written(_split(job, prepared), job)
    except _Refused as problem:
        return {"refused": str(problem)}
    finally:
        shutil.rmtree(prepared, ignore_errors=True)
    report(1, 1, "data set")
    return {"file": str(file)}


def _split(job: LoadDataset, prepared: Path) -> Dataset:
    """The rows of the split. No code of the data set is run: the library has not supported any since its version 4."""
    where = (job.name, str(prepared)) if job.commit is None else (_HUB + job.name, None)
    try:
        builder = load_dataset_builder(where[0], job.config, revision=job.commit, cache_dir=where[1])
        if (
            job.commit is not None and builder.hash != job.commit
        ):  # without a network the library takes any commit that it has
            raise _Refused(
                f"commit {job.commit} is not in this machine's cache, and the hub cannot be reached: connect"
            )
        for file in _files(builder):
            if not _of_data_set(file, job):
                raise _Refused(f"its card names {file}, which is no file of the data set")
        builder.download_and_prepare()
        return builder.as_dataset(split=job.split)
    except (ValueError, RuntimeError, FileNotFoundError, DatasetsError) as error:
        cause = error
        while isinstance(cause.__cause__, Exception):
            cause = cause.__cause__
        words = " ".join(str(cause).split())[:500]
        raise _Refused(f"it cannot be loaded ({type(cause).__name__}: {words})") from error


def _files(builder: Any) -> list[str]:
    """The files that a data set's card names, or else those whose names say what they are; [] where the cache has what they hold."""
    return [str(file) for files in (builder.config.data_files or {}).values() for file in files]


def _of_data_set(file: str, job: LoadDataset) -> bool:
    """Whether a file is one of the data set: a card may name any file of this machine, and no fingerprint would know it."""
    if job.commit is not None:
        return file.startswith(_HUB) and f"@{job.commit}/" in file and "/../" not in file
    return Path(os.path.normpath(file)).is_relative_to(Path(job.name).resolve())


def _written(rows: Dataset, job: LoadDataset) -> Path:
    """The table; JSON lines where cells of a column differ in type, as such a column is one of texts alone in Parquet."""
    if missing := [name for name in job.needed if name not in rows.column_names]:
        raise _Refused(
            f"no column {', '.join(missing)}: it has {', '.join(rows.column_names)} (see corpus.columns.text)"
        )
    rows = rows.select_columns([name for name in (*job.needed, *job.wanted) if name in rows.column_names])
    out = Path(job.out)
    if any(isinstance(rows.features[name], Json) for name in rows.column_names):
        out = out.with_suffix(".jsonl")
        rows.to_json(out)
    else:
        rows.to_parquet(out)
    return out
