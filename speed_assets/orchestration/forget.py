"""Which artifacts and releases of a home hold a document of the corpus, or were made from one that does.

A document that is named in `corpus.forget`, or whose file is gone, is in nothing that is made from then on. What was made before stays
where it is, so this report names it: tables with rows that hold the document's text, and what was trained on them.

Belongs here: finding and reporting. Not here: leaving the document out (`assets/corpus.py`), printing (`cli.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from resources.store.artifacts import artifact_label
from resources.store.manifests import MANIFEST_FILE, load_manifest
from speed_assets.domain.graph import ALIGNMENT, PASSAGES
from speed_assets.domain.task_types import GIVEN_TEXT_TYPES
from speed_assets.recipe import Recipe, RecipeError


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
    held: tuple[Held, ...]
    left_out: bool

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "document": self.document_id,
            "passages": self.passages,
            "left_out": self.left_out,
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
        RecipeError: when the recipe has no corpus, or no passage of such a document was ever made here.
    """
    if recipe.corpus is None:
        raise RecipeError("the recipe has no corpus, so there is no document to forget")
    manifests = list(_manifests(home))
    texts: set[str] = set()
    passage_ids: set[str] = set()
    digests: dict[str, str] = {}
    for path, manifest in manifests:
        if manifest["asset"] != PASSAGES:
            continue
        tables = [path / f"{table}.parquet" for table in ("data", ALIGNMENT)]
        rows = pl.concat([pl.read_parquet(file) for file in tables if file.exists()]).filter(document_id=document_id)
        texts.update(rows["text"])
        passage_ids.update(rows["passage_id"] if "passage_id" in rows.columns else ())
        if rows.height:
            digests[manifest["digest"]] = _name(manifest)
        parts: Mapping[str, str] = manifest["metadata"].get("parts", {})
        digests |= {digest: _name(manifest) for part, digest in parts.items() if rows.filter(part).height}
    if not texts:
        raise RecipeError(
            f"no passage of a document {document_id!r} is in this home: give an id as `speed show passages` has it (the path of a "
            "file below the corpus, or the id of a row)"
        )
    parts_of = _given_texts(manifests, passage_ids)
    held = _held(manifests, sorted(texts | parts_of), digests)
    return Forgetting(document_id, len(texts), held, document_id in recipe.corpus.forget)


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


def _held(manifests: list[tuple[Path, dict[str, Any]]], texts: list[str], digests: dict[str, str]) -> tuple[Held, ...]:
    """Those that hold one of the texts, and those that were made from them, however far."""
    rows = {str(path): sum(_rows(file, texts) for file in path.rglob("*.parquet")) for path, _ in manifests}
    names = dict(digests)
    found: dict[str, Held] = {}
    while True:
        before = len(found)
        for path, manifest in manifests:
            inputs: Mapping[str, str] = manifest["lineage"].get("inputs", {})
            made_from = tuple(sorted({names[digest] for digest in inputs.values() if digest in names}))
            if (rows[str(path)] or made_from) and str(path) not in found:
                found[str(path)] = Held(_name(manifest), manifest["fingerprint"], str(path), rows[str(path)], made_from)
                names[manifest["digest"]] = _name(manifest)
        if len(found) == before:
            return tuple(sorted(found.values(), key=lambda held: (held.name, held.path)))


def _rows(file: Path, texts: list[str]) -> int:
    """Rows of a table in which some text holds one of these."""
    table = pl.read_parquet(file)
    columns = [name for name, kind in table.schema.items() if kind == pl.String]
    if not columns:
        return 0
    return table.filter(pl.any_horizontal(pl.col(name).str.contains_any(texts) for name in columns)).height


def _name(manifest: Mapping[str, Any]) -> str:
    return artifact_label(manifest["asset"], manifest.get("partition"))


def _manifests(home: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """(folder, manifest) of every complete artifact and release."""
    for file in sorted([*home.glob(f"artifacts/*/*/{MANIFEST_FILE}"), *home.glob(f"releases/*/{MANIFEST_FILE}")]):
        if file.parent.is_symlink():
            continue
        try:
            manifest = load_manifest(file.parent)
        except ValueError:
            continue
        yield file.parent, manifest
