"""What a changed, an added and a removed document costs, and what is left of a removed one: `python -m benchmarks.corpus_increments`.

A home has a full run on generated documents, each with facts of its own, under a scripted teacher on loopback. Then 1 % of the
documents change, 1 % are added, 1 % are removed, one after the other. For each: teacher calls and newly written rows as shares of
those of the full run, planned calls, and what was trained again. After the removal every file of the new release, and every table that its run
made or took over, is searched for every sentence of the removed documents and for every query that was written about them.

Two recipes: `teacher` (the teacher writes the rows) and `loop` (generators do, small ones that are trained here, on documents of
their own: `corpus.alignment`). `--aligned` changes one of those instead, and shows the price of that: all is written again.

Last line: one JSON object, {recipe: {"documents", "full", "changed", "added", "removed"}}.

Belongs here: documents that change, counting, searching. Not here: what a change makes stale (`domain/fingerprints.py`).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from resources.compute.runner import Runner
from resources.progress import ProgressLines
from resources.store.artifacts import Artifacts
from resources.store.store import Artifact, Store
from speed_assets.domain.task_types import GROUNDED
from speed_assets.orchestration import runs
from speed_assets.orchestration.plan import plan
from speed_assets.recipe import RECIPES, Recipe, parse_recipe
from tests.support.reading_teacher import note, reading, write_corpus
from tests.support.teacher_server import TeacherServer
from tests.test_corpus_loop import loop_data, recipe_of

WRITERS = ("seed_data", "senior_data", "revised_data", "own_evaluation")
"""Tables whose rows somebody writes."""
GENERATORS = {"junior_model", "senior_model", "revisor_model"}
ALIGNED = 40
"""Documents that generators are trained on."""
WORDS_MIN = 6
"""Words of a sentence or query that is searched for."""


def recipe_for(name: str, url: str, root: Path, rows: int) -> Recipe:
    """`teacher` or `loop`, with so many rows from passages, to a release whatever its scores."""
    if name == "teacher":
        data = recipe_of(url, root).model_dump()
        data["seed_data"]["rows"] |= {"retrieval": 0, "grounded": rows}
        data["own_evaluation"]["rows"] = max(6, rows // 20)
        return Recipe.model_validate(data)
    data = loop_data(url, root)
    data["corpus"]["alignment"] = str(root / "alignment")
    data["senior_data"]["rows"] = {**data["senior_data"]["rows"], "retrieval": rows}
    return parse_recipe(data, RECIPES / "own_loop.yaml")


def artifacts_of(recipe: Recipe, home: Path) -> dict[str, Artifact]:
    """Every artifact of a recipe that is there, by asset and partition."""
    artifacts = Artifacts(recipe, Store(home))
    found = {
        f"{stage.name}/{part}" if part else stage.name: artifacts.fetch(stage.name, part)
        for stage, part in artifacts.in_build_order()
    }
    return {name: artifact for name, artifact in found.items() if artifact is not None}


def written(found: dict[str, Artifact]) -> dict[str, set[tuple[str, ...]]]:
    """Rows of the tables that somebody writes: what names them, their passage included."""
    return {
        name: set(artifact.table().select(pl.col("row_id"), pl.col("query").fill_null("")).iter_rows())
        for name, artifact in found.items()
        if name.partition("/")[0] in WRITERS
    }


class Home:
    """Runs of one recipe in one home, each compared with the one before."""

    def __init__(self, recipe: Recipe, home: Path, runner: Runner) -> None:
        self.recipe, self.home, self.runner = recipe, home, runner
        self.before: dict[str, set[tuple[str, ...]]] = {}

    def run(self, server: TeacherServer) -> dict[str, Any]:
        """Calls, planned calls, newly written rows, trained models and seconds of a run."""
        planned, calls = plan(self.recipe, self.home).as_json()["calls"], len(server.served)
        report = runs.run(self.recipe, self.home, say=ProgressLines().print_line, runner=self.runner)
        if report.errors or report.refused:
            sys.exit("\n".join(f"error: {error}" for error in [*report.errors, *report.refused]))
        now = written(artifacts_of(self.recipe, self.home))
        new = {name: len(rows - self.before.get(name, set())) for name, rows in now.items()}
        self.before = now
        trained = {name.partition("/")[0] for name in report.made} & (GENERATORS | {"embedding_model"})
        result = {
            "calls": len(server.served) - calls,
            "planned_calls": planned,
            "rows": sum(new.values()),
            "by_table": new,
            "trained": sorted(trained),
            "wall_s": round(report.wall_s, 1),
        }
        print(json.dumps(result), file=sys.stderr, flush=True)
        return result


def spread(names: Sequence[str], count: int) -> list[str]:
    """So many of the names, evenly spread."""
    return list(names[:: max(1, len(names) // count)][:count])


def left_of(texts: Iterable[str], folders: Iterable[Path]) -> list[str]:
    """Files in which one of the texts stands, byte for byte; tables are read, other files as they are."""
    needles = [text.encode() for text in texts]
    found = []
    for folder in folders:
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            if file.suffix == ".parquet":
                content = "\n".join(
                    text for column in pl.read_parquet(file) for text in _texts(column.to_list())
                ).encode()
            else:
                content = file.read_bytes()
            if any(needle in content for needle in needles):
                found.append(str(file))
    return found


def _texts(value: Any) -> Iterable[str]:
    """Every text in a value of a table, however deep in lists and structs."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _texts(one)


def sentences_of(file: Path) -> list[str]:
    """Sentences of a document, long enough to be its own."""
    parts = file.read_text().replace("\n", " ").split(". ")
    return [part.strip() for part in parts if len(part.split()) >= WORDS_MIN]


def queries_about(home: Home, documents: Sequence[str]) -> list[str]:
    """Queries that were written for passages of documents."""
    found = artifacts_of(home.recipe, home.home)
    passages = found[f"passages/{GROUNDED}"].table().filter(pl.col("document_id").is_in(list(documents)))["passage_id"]
    queries: list[str] = []
    for name, artifact in found.items():
        asset, table = name.partition("/")[0], artifact.table() if name.partition("/")[0] in WRITERS else None
        if table is not None:
            of = "passage_id" if asset == "own_evaluation" else "task_id"
            queries += table.filter(pl.col(of).is_in(passages.implode()))["query"].drop_nulls().to_list()
    return [query for query in queries if len(query.split()) >= WORDS_MIN]


def measure(name: str, documents: int, *, aligned: bool, root: Path) -> dict[str, Any]:
    """All changes under one recipe."""
    write_corpus(root / "corpus", documents)
    write_corpus(root / "alignment", ALIGNED, first=documents + 1000)
    corpus, count = root / ("alignment" if aligned else "corpus"), max(1, documents // 100)
    runner = Runner(root / "home")
    try:
        with TeacherServer(reading()) as server:
            asked = recipe_for(name, server.url, root, 2 * documents)
            home = Home(asked, root / "home", runner)
            full = home.run(server)

            def after(change: Callable[[list[str]], None]) -> dict[str, Any]:
                names = spread(sorted(file.name for file in corpus.glob("*.md")), count)
                change(names)
                result = home.run(server)
                shares = {f"{key}_share": round(result[key] / full[key], 4) for key in ("calls", "rows")}
                return {"documents": len(names), **shares, **result}

            def edit(names: list[str]) -> None:
                for one in names:
                    text = (corpus / one).read_text()
                    (corpus / one).write_text(text.replace("before we could", "long before we had to", 1))

            def add(names: list[str]) -> None:
                for number in range(len(names)):
                    (corpus / f"note{documents + number:03}.md").write_text(note(documents + number))

            changed, added = after(edit), after(add)
            gone: dict[str, list[str]] = {"sentences": [], "queries": []}

            def remove(names: list[str]) -> None:
                gone["sentences"] = [text for one in names for text in sentences_of(corpus / one)]
                gone["queries"] = queries_about(home, names)
                for one in names:
                    (corpus / one).unlink()

            held = {artifact.path for artifact in artifacts_of(asked, home.home).values()}
            removed = after(remove)
            now = artifacts_of(asked, home.home)
            texts = [*gone["sentences"], *gone["queries"]]
            removed |= {
                "searched_for": {key: len(found) for key, found in gone.items()},
                "held_before": len(left_of(texts, held)),
                "left": left_of(texts, [artifact.path for artifact in now.values()]),
                "release": str(now["release"].path.name),
            }
    finally:
        runner.close()
    return {
        "documents": documents, "candidates": "aligned" if aligned else "not aligned", "full": full, "changed": changed, "added": added, "removed": removed,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=300)
    parser.add_argument("--recipe", choices=("teacher", "loop"), nargs="+", default=["teacher", "loop"])
    parser.add_argument("--aligned", action="store_true", help="documents that a generator was trained on change")
    args = parser.parse_args()
    results = {}
    for name in args.recipe:
        with tempfile.TemporaryDirectory() as folder:
            results[name] = measure(name, args.documents, aligned=args.aligned, root=Path(folder))
    print(json.dumps(results))


if __name__ == "__main__":
    main()
