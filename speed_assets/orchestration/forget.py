"""Which artifacts and releases of a home hold a document of the corpus, or were made from one that does.

A document that is named in `corpus.forget`, or whose file is gone, is in nothing that is made from then on. What was made before stays
where it is, so this report names it: tables with rows that hold the document's text, and what was trained on them.

Belongs here: finding and reporting. Not here: leaving the document out (`assets/corpus.py`), printing (`cli.py`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from resources.store.artifacts import artifact_label
from resources.store.bucket import URL_VARIABLE
from resources.store.home import POSTGRES_VARIABLE
from resources.store.manifests import MANIFEST_FILE, load_manifest
from speed_assets.domain.graph import ALIGNMENT, PASSAGES
from speed_assets.domain.task_types import GIVEN_TEXT_TYPES
from speed_assets.recipe import Recipe, RecipeError

_EVENTS = "events keep the first rows of each table, and rows that failed a check"
_REPEATS = ("duplicate", "near_duplicate")
"""Why whole passages are in the quarantine. Other pieces may be as short as a word, which would be found anywhere."""


@dataclass(frozen=True, slots=True)
class Held:
    """An artifact or release that holds a document. `rows` of its tables hold its text; with 0 it was made from one that does."""

    name: str
    fingerprint: str
    path: str
    rows: int
    made_from: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Forgetting:
    """What a home holds of a document, and whether the recipe leaves it out from now on."""

    document_id: str
    passages: int
    quarantined: int
    """Pieces of its text in the quarantine of passages: too short, repeated, boilerplate, refused."""
    held: tuple[Held, ...]
    left_out: bool
    elsewhere: tuple[str, ...] = ()
    """Other places of the home that may hold its text and are not searched, each with what is to be done."""

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "document": self.document_id,
            "passages": self.passages,
            "quarantined": self.quarantined,
            "left_out": self.left_out,
            "elsewhere": list(self.elsewhere),
            "held": [
                {"name": one.name, "fingerprint": one.fingerprint, "path": one.path, "rows": one.rows, "made_from": list(one.made_from)}
                for one in self.held
            ],
        }  # fmt: skip


def forget(recipe: Recipe, home: Path, document_id: str) -> Forgetting:
    """What the home holds of a document, in every artifact and release that is there, under whatever recipe.

    Args:
        recipe: whose corpus the document is of.
        home: to be searched; its files are read and none is changed.
        document_id: as in the table `passages`: a file's path below the corpus, or the id of a row.

    Raises:
        RecipeError: when the recipe has no corpus, or no text of such a document is here, neither in a passage nor in the quarantine.
    """
    if recipe.corpus is None:
        raise RecipeError("the recipe has no corpus, so there is no document to forget")
    manifests = list(_manifests(home))
    passages: set[str] = set()
    repeated: set[str] = set()
    quarantined: set[str] = set()
    passage_ids: set[str] = set()
    digests: dict[str, str] = {}
    for path, manifest in manifests:
        if manifest["asset"] != PASSAGES:
            continue
        tables = [path / f"{table}.parquet" for table in ("data", ALIGNMENT)]
        rows = pl.concat([pl.read_parquet(file) for file in tables if file.exists()]).filter(document_id=document_id)
        passages.update(rows["text"])
        passage_ids.update(rows["passage_id"] if "passage_id" in rows.columns else ())
        pieces = _pieces(path / "quarantine.parquet", document_id)
        quarantined.update(pieces["raw"])
        repeated.update(pieces.filter(pl.col("reason").is_in(_REPEATS))["raw"])
        if rows.height:
            digests[manifest["digest"]] = _name(manifest)
        parts: Mapping[str, str] = manifest["metadata"].get("parts", {})
        digests |= {digest: _name(manifest) for part, digest in parts.items() if rows.filter(part).height}
    if not passages | quarantined:
        raise RecipeError(
            f"no text of a document {document_id!r} is in this home, neither in a passage nor in the quarantine: give an id as `speed "
            "show passages` or `speed quarantine` has it (the path of a file below the corpus, or the id of a row)"
        )
    parts_of = _given_texts(manifests, passage_ids)
    held = _held(manifests, sorted(passages | repeated | parts_of), document_id, digests)
    left_out = document_id in recipe.corpus.forget
    return Forgetting(document_id, len(passages), len(quarantined), held, left_out, _elsewhere(home))


def _pieces(file: Path, document_id: str) -> pl.DataFrame:
    """The rows of a quarantine that hold text of a document which was read for passages."""
    schema = pl.read_parquet_schema(file) if file.exists() else {}
    if not {"row_id", "stage", "reason", "raw"} <= schema.keys():
        return pl.DataFrame(schema=dict.fromkeys(("row_id", "stage", "reason", "raw"), pl.String))
    of_document = (pl.col("stage") == PASSAGES) & (pl.col("row_id").str.replace(r"#\d+$", "") == document_id)
    return pl.read_parquet(file).filter(of_document & (pl.col("raw") != ""))


def _given_texts(manifests: list[tuple[Path, dict[str, Any]]], passage_ids: set[str]) -> set[str]:
    """The texts of rows that were given a passage or a part of one, such as a sentence: it stands in rows without its passage."""
    found: set[str] = set()
    for path, _ in manifests:
        file = path / "data.parquet"
        if not file.exists() or not {"task_id", "task_type", "query"} <= {*pl.read_parquet_schema(file)}:
            continue
        rows = pl.read_parquet(file, columns=["task_id", "task_type", "query"])
        given = pl.col("task_type").is_in(GIVEN_TEXT_TYPES) & pl.col("task_id").is_in(list(passage_ids))
        found.update(rows.filter(given)["query"].drop_nulls())
    return found


def _held(
    manifests: list[tuple[Path, dict[str, Any]]], texts: list[str], document_id: str, digests: dict[str, str]
) -> tuple[Held, ...]:
    """Those that hold one of the texts or a piece of the document, and those that were made from them, however far. Nothing is made
    from a stage's quarantine but the table `quarantine` and releases, which hold its rows."""
    rows = {str(path): _rows_of_tables(path, texts, document_id) for path, _ in manifests}
    names = dict(digests)
    found: dict[str, Held] = {}
    while True:
        before = len(found)
        for path, manifest in manifests:
            inputs: Mapping[str, str] = manifest["lineage"].get("inputs", {})
            made_from = tuple(sorted({names[digest] for digest in inputs.values() if digest in names}))
            holding, aside = rows[str(path)]
            if (holding or aside or made_from) and str(path) not in found:
                found[str(path)] = Held(_name(manifest), manifest["fingerprint"], str(path), holding + aside, made_from)
                if holding or made_from:
                    names[manifest["digest"]] = _name(manifest)
        if len(found) == before:
            return tuple(sorted(found.values(), key=lambda held: (held.name, held.path)))


def _rows_of_tables(path: Path, texts: list[str], document_id: str) -> tuple[int, int]:
    """(rows of an artifact's tables that hold the document, those of its quarantine)."""
    holding = aside = 0
    for file in path.rglob("*.parquet"):
        rows = _rows(file, texts, document_id)
        if file.name == "quarantine.parquet":
            aside += rows
        else:
            holding += rows
    return holding, aside


def _rows(file: Path, texts: list[str], document_id: str) -> int:
    """Rows of a table in which some text holds one of these, or which are pieces of the document."""
    table = pl.read_parquet(file)
    columns = [name for name, kind in table.schema.items() if kind == pl.String]
    rows = _pieces(file, document_id)
    if not columns or not texts:
        return rows.height
    with_text = table.filter(pl.any_horizontal(pl.col(name).str.contains_any(texts) for name in columns))
    if rows.is_empty():
        return with_text.height
    return pl.concat([with_text["row_id"], rows["row_id"]]).n_unique()


def _elsewhere(home: Path) -> tuple[str, ...]:
    """What else may hold the text. Events of runs keep it cut and escaped, so a search that finds nothing would prove nothing."""
    found = []
    if os.environ.get(POSTGRES_VARIABLE):
        found.append(f"the history of runs in {POSTGRES_VARIABLE}: {_EVENTS}; `dagster run wipe` empties it")
    elif (home / "dagster" / "history").exists():
        found.append(
            f"{home / 'dagster' / 'history'}: {_EVENTS}; delete the folder while nothing runs, and the next `speed run` records what it finds made"
        )
    if os.environ.get(URL_VARIABLE):
        found.append(f"the store in {URL_VARIABLE}: artifacts of other homes; delete there what is named above, too")
    if (home / "reports").exists():
        found.append(f"{home / 'reports'}: pages of `speed report` show rows; delete them")
    return (
        *found,
        f"{home / 'work'}: unfinished stages, until they are finished or the folder is deleted while nothing runs",
    )


def _name(manifest: Mapping[str, Any]) -> str:
    return artifact_label(manifest["asset"], manifest.get("partition"))


def _manifests(home: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """(folder, manifest) of every complete artifact and release."""
    homes = [home, *home.glob("rehearsals/*")]
    patterns = (f"artifacts/*/*/{MANIFEST_FILE}", f"releases/*/{MANIFEST_FILE}")
    for file in sorted(file for one in homes for pattern in patterns for file in one.glob(pattern)):
        if file.parent.is_symlink():
            continue
        try:
            manifest = load_manifest(file.parent)
        except ValueError:
            continue
        yield file.parent, manifest
