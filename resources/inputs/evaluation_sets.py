"""All texts of the evaluation sets, for decontamination, and which sets in folders are scored.

Hidden state of the process: the last 16 folders that were read to their end are cached by path, size and times of their files.

Belongs here: the microworld's texts, and finding descriptions and texts (JSON lines, Parquet, CSV or TSV, also gzipped)
in a folder. Not here: what is done with them (`domain/contamination.py`), the tables of a set that is scored
(`workers/folder_data.py`).
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO, TextIO, cast

import polars as pl
from typing_extensions import override

from resources.inputs.parquet_bounds import RATIO_BYTES, RATIO_MAX, ROWS_MAX, check_parquet
from resources.store.store import UNHASHED_DIR
from speed_assets.domain.evaluation_folders import DESCRIPTION, check_names, read_description
from speed_assets.microworld.evaluation import evaluation_sets
from speed_assets.recipe import Evaluation, RecipeError
from speed_assets.workers.folder_data import described_folder, read_folder

csv.field_size_limit(16_000_000)  # characters: the scorer's reader has no limit; Python's own is 131,072
BYTES_MAX = 16_000_000_000
"""Maximum bytes of a file, unpacked (ours: five times the passages of MS MARCO)."""
JSON_BYTES_MAX = 1_000_000_000
"""Maximum bytes of a `.json` file, unpacked, which is read into memory at once (ours)."""
_READ = (".jsonl", ".json", ".parquet", ".tsv", ".csv")


Texts = Mapping[str, Sequence[str] | pl.Series]
"""Texts by evaluation task. Those of mteb's tasks are columns, since a list of them would not fit into memory."""


def offline_evaluation_texts(section: Evaluation) -> dict[str, list[str]]:
    """The texts of sets that need no download, by evaluation task: the microworld's and those of local sets."""
    texts = local_texts(section.local)
    if section.microworld is not None:
        sets = evaluation_sets(**section.microworld.model_dump())
        texts |= {f"microworld {task}": group for task, group in sets.all_texts().items()}
    return texts


TASK_TEXTS = "task_texts.parquet"
"""Table (task, text) in `UNHASHED_DIR` of `evaluation_texts`: the texts of mteb's tasks."""


def task_texts(artifact: Path) -> dict[str, pl.Series]:
    """The texts of mteb's tasks in an artifact's folder, by task; empty when there are none."""
    file = artifact / UNHASHED_DIR / TASK_TEXTS
    if not file.exists():
        return {}
    groups = pl.read_parquet(file).partition_by("task", maintain_order=True)
    return {str(group["task"][0]): group["text"] for group in groups}


_NO_TEXT = re.compile(
    r"(?i)^(?:_?id|uuid|idx|index|key|n|.*[-_ ]id|.*[a-z]Id|split|score|scores|relevance|rank|lang|language|source|label|labels"
    r"|label_text|intent|intents|category|class|domain|tag|tags)$"
)
"""Names of columns that hold ids, labels and figures in the sets that people publish."""
_LABEL_ROWS, _LABEL_SHARE, _LABEL_WORDS = 50, 0.1, 8
"""A column holds labels, whatever its name, if it has at least 50 rows, at most 10 % of them are different, and their mean is
at most 8 words. Ours: paragraphs that many questions share are longer, and short texts repeat less often."""


def local_texts(folders: Iterable[str]) -> dict[str, list[str]]:
    """All texts in the files of folders, from every column and list.

    Ids, labels and names of columns are left out: a row with the label of an evaluation set ("lost or stolen card") reveals
    nothing of the set. A column counts as one of them by its role in `task.yaml`, by its name, or because few different
    short values fill many rows.

    Args:
        folders: Folders with JSON lines, JSON, Parquet, CSV or TSV files, perhaps gzipped.

    Returns:
        {folder name: different texts}. Folders of one name are numbered, since cards name them and hold no path.

    Raises:
        RecipeError: A folder has no such file, or a file cannot be read.
    """
    found: dict[str, list[str]] = {}
    for folder in folders:
        path = Path(folder)
        files = [file for file in sorted(path.rglob("*")) if _kind(file) in _READ and file.is_file()]
        if not files:
            raise RecipeError(f"evaluation.local: no {', '.join(_READ)} file below {path}")
        described = _described_labels(path)
        texts: dict[str, None] = {}
        for file in files:
            with _explained(file):
                columns = _columns(file)
            for name, cells in columns.items():
                if name not in described and not _is_no_text(name, cells):
                    texts.update(dict.fromkeys(cells))
        found[_new_name(path.name, found)] = list(texts)
    return found


def _new_name(name: str, taken: Collection[str]) -> str:
    """The name, with a number behind it if it is taken."""
    numbered = (f"{name} ({number})" for number in count(2))
    return name if name not in taken else next(other for other in numbered if other not in taken)


def _described_labels(folder: Path) -> set[str]:
    """Columns that the folder's own description calls a label, a score or an id; none where it has none or a wrong one."""
    file = folder / DESCRIPTION
    try:
        fields = read_description(file.read_text(encoding="utf-8-sig")).fields if file.is_file() else {}
    except (OSError, ValueError):
        return set()  # `scored_folders` reports it
    texts = ("text", "title", "sentence1", "sentence2")
    return {
        name
        for role, named in fields.items()
        for name in ([named] if isinstance(named, str) else named)
        if role.rpartition(".")[2] not in texts
    }


def _is_no_text(name: str, cells: Sequence[str]) -> bool:
    """Whether a column holds ids, labels or figures."""
    if not cells:
        return True
    words = sum(cell.count(" ") + 1 for cell in cells) / len(cells)
    if words > _LABEL_WORDS:
        return False
    return bool(_NO_TEXT.match(name)) or (len(cells) >= _LABEL_ROWS and len(set(cells)) <= _LABEL_SHARE * len(cells))


def scored_folders(folders: Iterable[str], taken: Iterable[str] = ()) -> list[Path]:
    """The folders that describe a task or have BEIR's layout.

    Args:
        folders: of the recipe.
        taken: names of sets that are scored, too.

    Raises:
        RecipeError: A description is wrong, names a file that is not there, or has the name of another set.
    """
    found, names = [], [*taken]
    for folder in map(Path, folders):
        file = folder / DESCRIPTION
        try:
            described = described_folder(folder)
        except (OSError, ValueError, RecursionError) as error:
            raise RecipeError(f"evaluation.local: {file}: {error}") from None
        if described is None:
            continue
        absent = [name for name in described.files() if not (folder / name).is_file()]
        if absent:
            raise RecipeError(f"evaluation.local: {file} names {', '.join(absent)}, which does not exist")
        found.append(folder)
        names.append(described.name)
        try:
            check_names(names)
        except ValueError as error:
            raise RecipeError(
                f"evaluation.local: {folder}: {error} (`name` in {DESCRIPTION}, or the folder's)"
            ) from None
    return found


@contextmanager
def _explained(file: Path) -> Iterator[None]:
    """Raise what goes wrong while a file is read as RecipeError that names it."""
    try:
        yield
    except (OSError, EOFError, ValueError, RecursionError, zlib.error, csv.Error, pl.exceptions.PolarsError) as error:
        words = (
            "nested too deeply"
            if isinstance(error, RecursionError)
            else str(error).splitlines()[0][:200]
            if str(error)
            else ""
        )
        raise RecipeError(
            f"evaluation.local: {file} cannot be read: {words or type(error).__name__}; mend or remove it"
        ) from None


@lru_cache(maxsize=16)
def check_folder(folder: str, _state: tuple[tuple[str, int, int, int], ...]) -> tuple[str, ...]:
    """Read every file of an evaluation set to its end, so that a plan reports what a run would stumble over.

    Args:
        folder: The folder.
        _state: What shows that a file of it has changed since the last call.

    Returns:
        What may lower the scores of a set that is scored, without being wrong.

    Raises:
        RecipeError: A file is cut, damaged or no table, or what the set's files say of each other is wrong.
    """
    _read_to_the_end(Path(folder))
    if not scored_folders([folder]):
        return ()
    try:
        return read_folder(Path(folder), texts=False).notes
    except ValueError as error:
        raise RecipeError(f"evaluation.local: {error}") from None


def _read_to_the_end(folder: Path) -> None:
    """Raises RecipeError for a file that is cut, damaged or no table."""
    for file in sorted(folder.rglob("*")):
        kind = _kind(file)
        if kind not in _READ or not file.is_file():
            continue
        with _explained(file):
            if kind == ".parquet":
                check_parquet(file, ROWS_MAX)
                continue
            with _opened(file) as lines:
                _check_size(file, lines)
                if kind == ".json":
                    json.load(lines)
                elif kind == ".jsonl":
                    for line in lines:
                        if line.strip():
                            json.loads(line)
                else:
                    for _row in csv.reader(lines) if kind == ".csv" else lines:
                        pass


def _opened(file: Path) -> TextIO:
    """The text of a file, unpacked, up to a limit. Raises ValueError where it is longer."""
    most = JSON_BYTES_MAX if _kind(file) == ".json" else BYTES_MAX
    if file.suffix != ".gz":
        raw: BinaryIO = file.open("rb")
    else:
        raw = cast(BinaryIO, gzip.open(file, "rb"))
        most = min(most, max(RATIO_BYTES, RATIO_MAX * file.stat().st_size))
    return io.TextIOWrapper(cast(BinaryIO, _Limited(raw, most)), encoding="utf-8-sig")


def _check_size(file: Path, lines: TextIO) -> None:
    """Unpack a gzip file once before its lines are parsed, which takes a hundred times as long. Raises ValueError beyond the limit."""
    if file.suffix == ".gz":
        while lines.buffer.read(1 << 20):
            pass
        lines.seek(0)


class _Limited(io.BufferedIOBase):
    """The bytes of a stream. Raises ValueError beyond a limit."""

    def __init__(self, raw: BinaryIO, most: int) -> None:
        self._raw, self._most, self._left = raw, most, most

    @override
    def readable(self) -> bool:
        return True

    @override
    def seekable(self) -> bool:
        return True

    @override
    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._left = self._most
        return self._raw.seek(offset, whence)

    @override
    def tell(self) -> int:
        return self._raw.tell()

    @override
    def read(self, size: int | None = -1) -> bytes:
        if size is None or size < 0:
            return self._counted(self._raw.read(self._left + 1))
        return self._counted(self._raw.read(size))

    @override
    def read1(self, size: int = -1) -> bytes:
        return self.read(io.DEFAULT_BUFFER_SIZE if size < 0 else size)

    @override
    def close(self) -> None:
        self._raw.close()
        super().close()

    def _counted(self, content: bytes) -> bytes:
        self._left -= len(content)
        if self._left < 0:
            raise ValueError(f"it has more than {self._most:,} bytes, unpacked")
        return content


def _kind(file: Path) -> str:
    return Path(file.name.removesuffix(".gz")).suffix


def _columns(file: Path) -> dict[str, list[str]]:
    """The texts of a file by column or key; lists and nested objects count to the outermost key."""
    kind = _kind(file)
    if kind == ".parquet":
        check_parquet(file, ROWS_MAX)
        return {column.name: list(_strings(column.to_list())) for column in pl.read_parquet(file).iter_columns()}
    with _opened(file) as lines:
        if kind == ".json":
            return _keyed([json.load(lines)])
        if kind == ".jsonl":
            return _keyed(json.loads(line) for line in lines if line.strip())
        split = csv.reader(lines) if kind == ".csv" else (line.rstrip("\n").split("\t") for line in lines)
        return _by_column(list(split))


def _keyed(values: Iterable[Any]) -> dict[str, list[str]]:
    columns: dict[str, list[str]] = {}
    for value in values:
        # A file may be one list of records, or one object of lists.
        for item in value if isinstance(value, list) else [value]:
            for key, inner in item.items() if isinstance(item, dict) else [("", item)]:
                columns.setdefault(str(key), []).extend(_strings(inner))
    return columns


def _by_column(rows: Sequence[Sequence[str]]) -> dict[str, list[str]]:
    """Cells by the name in the first row, or by number where the first row is no row of names."""
    if not rows:
        return {}
    first = rows[0]
    named = len(set(first)) == len(first) and all(re.fullmatch(r"[A-Za-z_][\w.-]{0,40}", cell) for cell in first)
    columns: dict[str, list[str]] = {}
    for row in rows[1 if named else 0 :]:
        for place, cell in enumerate(row):
            columns.setdefault(first[place] if named and place < len(first) else str(place), []).append(cell)
    return columns


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _strings(item)
