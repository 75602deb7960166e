"""From documents to a release decision, without key or GPU. `make own-corpus`, or `make own-corpus CORPUS=folder`.

Without CORPUS the documents are the descriptions of functions and classes in the installed package networkx (BSD-3-Clause), read from
its source when this runs: some 450 short texts on graphs, none of them in this repository. The writer is SmolLM2-135M-Instruct, as in
`benchmarks.natural`. At the end a page shows what the base model and the adapted one find for 20 queries about held-out documents.

Last line: one JSON object, {"documents", "stages", "kept", "scores", "release", "page", "wall_s", ...}.

Belongs here: the corpus, the page. Not here: the writer's server (`natural.py`), what a stage does (the recipe).
"""

from __future__ import annotations

import argparse
import ast
import html
import importlib.util
import re
from pathlib import Path

import numpy as np

from benchmarks import natural
from resources.inputs.base_models import resolve_model
from resources.progress import ProgressLines
from resources.store.artifacts import Artifacts
from resources.store.shared_store import store_of
from speed_assets.domain.graph import OWN_EVALUATION, PASSAGES
from speed_assets.recipe import Recipe, RecipeError, load_recipe

PACKAGE = "networkx"
WORDS_MIN = 40
"""Words of a description that is a document (ours)."""
SHOWN = 20
_SECTION = re.compile(r"\n\s*(?:Parameters|Returns|Examples|References|See Also|Raises|Yields|Attributes)\s*\n\s*-{3,}.*?(?=\n\s*\w[\w ]*\n\s*-{3,}|\Z)", re.DOTALL)  # fmt: skip
_MARKS = re.compile(r"\$|``?|:\w+:`|\.\. \w+::")


def gather(folder: Path, package: str = PACKAGE) -> int:
    """Write a text for each function and class of an installed package that describes itself in words; how many there are."""
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise RecipeError(f"package {package} is not installed: name a folder of documents with CORPUS=")
    root = Path(found.origin).parent
    folder.mkdir(parents=True, exist_ok=True)
    count = 0
    for file in sorted(root.rglob("*.py")):
        if "tests" in file.parts:
            continue
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
                continue
            text = _MARKS.sub("", _SECTION.sub("\n", ast.get_docstring(node) or "")).strip()
            if len(text.split()) >= WORDS_MIN:
                module = ".".join(file.relative_to(root.parent).with_suffix("").parts)
                title = node.name.replace("_", " ")
                (folder / f"{module}.{node.name}.md").write_text(
                    f"---\ntitle: {title}\n---\n{text}\n", encoding="utf-8"
                )
                count += 1
    return count


def of_folder(recipe: Recipe, folder: Path) -> Recipe:
    """The recipe on another folder of documents."""
    assert recipe.corpus is not None
    return recipe.model_copy(
        update={"corpus": recipe.corpus.model_copy(update={"path": str(folder.resolve()), "dataset": None})}
    )


def page(recipe: Recipe, artifacts: Artifacts, out: Path) -> dict[str, float]:
    """Write what both models find first for some held-out queries; the share of all queries whose passage comes first."""
    from sentence_transformers import SentenceTransformer

    passages = artifacts.get(PASSAGES, "grounded").table().filter("held_out")
    queries = artifacts.get(OWN_EVALUATION).table()
    places = {one: place for place, one in enumerate(passages["passage_id"])}
    right = np.array([places[one] for one in queries["passage_id"]])
    folders = {
        "before": resolve_model(recipe.embedding_model.base, recipe.embedding_model.revision)[0],
        "after": str(artifacts.get("embedding_model").path / "model"),
    }
    order: dict[str, np.ndarray] = {}
    for name, folder in folders.items():
        model = SentenceTransformer(folder, device="cpu")
        vectors = [
            model.encode(texts.to_list(), normalize_embeddings=True, batch_size=32, show_progress_bar=False)
            for texts in (queries["query"], passages["text"])
        ]
        order[name] = np.argsort(-(vectors[0] @ vectors[1].T), axis=1, kind="stable")
    rows = []
    for number, query in enumerate(queries["query"].head(SHOWN)):
        cells = [f"<td>{html.escape(query)}</td>"]
        for name in folders:
            ranked = order[name][number]
            rank = int(np.flatnonzero(ranked == right[number])[0]) + 1
            first = html.escape(str(passages["text"][int(ranked[0])])[:240])
            cells.append(
                f'<td class="{"right" if rank == 1 else "wrong"}">{first}…<br><b>its passage: place {rank}</b></td>'
            )
        rows.append(f"<tr>{''.join(cells)}</tr>")
    style = "body{font:15px sans-serif;margin:2em}td{vertical-align:top;padding:.5em;border-top:1px solid #ccc;width:33%}.right{background:#e7f6e7}"
    head = "<tr><th>query about a held-out document</th><th>found first before</th><th>found first after</th></tr>"
    out.write_text(
        f'<!doctype html><meta charset="utf-8"><title>Before and after</title><style>{style}</style>'
        f"<h1>Before and after</h1><table>{head}{''.join(rows)}</table>",
        encoding="utf-8",
    )
    return {name: round(float((ranked[:, 0] == right).mean()), 4) for name, ranked in order.items()}


def main() -> None:
    """Gather the documents, run the recipe, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, help="folder of documents; without it those of a package are gathered")
    args = parser.parse_args()
    home = natural.benchmark_home(".speed-own-corpus")

    def recipe_of(lines: ProgressLines) -> Recipe:
        folder = args.corpus or home / "documents"
        if args.corpus is None:
            lines.print_line(f"{gather(folder)} documents of {PACKAGE} in {folder}")
        return of_folder(load_recipe("own_corpus"), folder)

    recipe, report = natural.run_with_teacher(recipe_of, home)
    summary = natural.figures(recipe, home, report)
    artifacts = Artifacts(recipe, store_of(home))
    passages = artifacts.fetch(PASSAGES, "grounded")
    summary["documents"] = passages.metadata["documents"] if passages else 0
    if summary["scores"]["after"]:
        summary["found_first"] = page(recipe, artifacts, home / "before_and_after.html")
        summary["page"] = str(home / "before_and_after.html")
    natural.print_and_exit(summary, report)


if __name__ == "__main__":
    main()
