"""The tables of modules in docs/architecture: `python -m scripts.module_tables` writes them, `--check` only compares.

A row is a module and the first sentence of its docstring. Every module of the product is on exactly one page.
"""

from __future__ import annotations

import ast
import sys
from fnmatch import fnmatch
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
PAGES_FOLDER = PROJECT / "docs" / "architecture"
BEGIN, END = "<!-- modules -->", "<!-- end of modules -->"
PAGES: dict[str, tuple[str, ...]] = {
    "artifacts.md": (
        "speed_assets/__init__.py",
        "speed_assets/errors.py",
        "speed_assets/front_door.py",
        "speed_assets/assets/__init__.py",
        "speed_assets/domain/__init__.py",
        "speed_assets/domain/graph*",
        "speed_assets/domain/columns.py",
        "resources/__init__.py",
        "resources/store/artifacts.py",
        "resources/store/asset_keys.py",
        "speed_assets/assets/given.py",
        "resources/inputs/__init__.py",
        "resources/inputs/file_heads.py",
        "resources/inputs/given_models.py",
        "resources/inputs/parquet_bounds.py",
        "resources/inputs/safe_models.py",
    ),
    "fingerprints.md": (
        "speed_assets/assets/stage*.py",
        "speed_assets/domain/fingerprints.py",
        "speed_assets/domain/bounded_yaml.py",
        "speed_assets/recipe/*",
        "resources/inputs/external_digests.py",
    ),
    "dagster.md": (
        "speed_assets/definitions.py",
        "speed_assets/component.py",
        "speed_assets/build.py",
        "speed_assets/assets/asset_page.py",
        "speed_assets/orchestration/__init__.py",
        "speed_assets/orchestration/staleness.py",
        "speed_assets/orchestration/automation.py",
        "speed_assets/orchestration/code_location.py",
        "speed_assets/orchestration/home_environment.py",
        "speed_assets/orchestration/recipe_of_run.py",
        "speed_assets/orchestration/ui_*",
        "resources/dagster_internals.py",
    ),
    "lanes.md": (
        "speed_assets/orchestration/run*",
        "speed_assets/orchestration/before_steps.py",
        "speed_assets/orchestration/lanes.py",
        "resources/instance/*",
        "resources/progress.py",
        "resources/file_locks.py",
    ),
    "changes.md": (
        "speed_assets/orchestration/plan*",
        "speed_assets/orchestration/calls_by_numbers.py",
        "speed_assets/orchestration/dry_teacher.py",
        "speed_assets/orchestration/doctor*",
        "speed_assets/domain/cost_bounds.py",
        "speed_assets/domain/machine_needs.py",
    ),
    "prompts.md": (
        "speed_assets/assets/tasks.py",
        "speed_assets/assets/topic*",
        "speed_assets/domain/prompts*",
        "speed_assets/domain/topic*",
        "speed_assets/domain/task_*",
        "speed_assets/domain/attributes.py",
        "speed_assets/domain/row_languages.py",
        "speed_assets/domain/rows.py",
        "speed_assets/microworld/*",
        "resources/inputs/enough_topics.py",
        "resources/inputs/prompt_files.py",
        "resources/inputs/topic_files.py",
    ),
    "corpus.md": (
        "speed_assets/assets/corpus.py",
        "speed_assets/assets/answered_examples.py",
        "speed_assets/assets/examples.py",
        "speed_assets/domain/few_shot.py",
        "speed_assets/domain/judged_texts.py",
        "speed_assets/assets/own_*",
        "speed_assets/assets/pools.py",
        "speed_assets/domain/given_texts.py",
        "speed_assets/domain/grounded*",
        "speed_assets/domain/passages.py",
        "speed_assets/domain/pooling.py",
        "speed_assets/domain/relevance_judgements.py",
        "speed_assets/orchestration/forget.py",
        "speed_assets/workers/cut_passages.py",
        "speed_assets/workers/load_dataset.py",
        "speed_assets/workers/pool_passages.py",
        "resources/inputs/corpus_files.py",
        "resources/inputs/hub_datasets.py",
        "resources/inputs/document_formats.py",
        "resources/inputs/example_files.py",
        "resources/inputs/table_lines.py",
        "resources/inputs/judged_queries.py",
        "resources/inputs/table_cells.py",
        "resources/inputs/unused_examples.py",
    ),
    "preferences.md": (
        "speed_assets/assets/senior*.py",
        "speed_assets/assets/preference*",
        "speed_assets/assets/revisor*",
        "speed_assets/domain/judging.py",
        "speed_assets/domain/revising.py",
    ),
    "rehearsals.md": ("speed_assets/orchestration/rehears*", "speed_assets/assets/stand_ins.py"),
    "studies.md": ("speed_assets/orchestration/study*", "speed_assets/domain/statistics*"),
    "checks.md": (
        "checks/*",
        "speed_assets/domain/gate_refusals.py",
        "speed_assets/assets/release*",
        "speed_assets/assets/quarantine.py",
        "resources/releases/__init__.py",
        "resources/releases/cards.py",
        "resources/releases/documents.py",
        "resources/releases/hub.py",
        "resources/releases/releases.py",
    ),
    "commands.md": (
        "speed_assets/cli/*",
        "speed_assets/orchestration/*",
        "speed_assets/domain/escaping.py",
        "speed_assets/workers/embed_texts.py",
        "speed_assets/workers/serve_embeddings.py",
        "speed_assets/workers/served_model.py",
        "resources/redaction.py",
        "resources/releases/served.py",
    ),
    "stores.md": ("resources/store/*",),
    "teacher.md": (
        "resources/teacher/*",
        "speed_assets/domain/dialect*",
        "speed_assets/domain/replies.py",
    ),
    "ledger.md": ("resources/ledger/*",),
    "clusters.md": ("resources/compute/cluster.py", "speed_assets/workers/order.py"),
    "training.md": (
        "speed_assets/assets/train*",
        "speed_assets/domain/training_length.py",
        "speed_assets/workers/curves.py",
        "speed_assets/workers/dpo.py",
        "speed_assets/workers/encoded_rows.py",
        "speed_assets/workers/fine_tuning.py",
        "speed_assets/workers/judged.py",
        "speed_assets/workers/sft.py",
        "speed_assets/workers/training_jobs.py",
    ),
    "calibration.md": (
        "speed_assets/assets/row_*",
        "speed_assets/domain/calibration.py",
        "speed_assets/domain/scoring.py",
        "speed_assets/workers/consistency.py",
        "speed_assets/workers/likelihood.py",
        "speed_assets/workers/similarities.py",
    ),
    "embedding.md": (
        "speed_assets/assets/embedding*",
        "speed_assets/assets/evaluation*",
        "speed_assets/assets/negatives.py",
        "speed_assets/assets/reranking.py",
        "speed_assets/assets/trained_rows.py",
        "speed_assets/domain/reranker_settings.py",
        "speed_assets/domain/evaluation_*",
        "speed_assets/domain/instructions.py",
        "speed_assets/workers/embed*",
        "speed_assets/workers/encoders.py",
        "speed_assets/workers/evaluate.py",
        "speed_assets/workers/folder_*.py",
        "speed_assets/workers/held_out.py",
        "speed_assets/workers/mine_negatives.py",
        "speed_assets/workers/rerank.py",
        "speed_assets/workers/ranking_loss.py",
        "speed_assets/workers/reader.py",
        "speed_assets/workers/samples.py",
        "speed_assets/workers/task_texts.py",
        "resources/inputs/evaluation_sets.py",
        "resources/inputs/rerankers.py",
    ),
    "generators.md": (
        "speed_assets/assets/junior.py",
        "speed_assets/assets/writing*",
        "speed_assets/workers/*",
        "resources/compute/*",
        "resources/inputs/*",
    ),
    "answers.md": (
        "speed_assets/domain/answer*",
        "speed_assets/domain/parsing.py",
        "speed_assets/domain/problems.py",
        "speed_assets/domain/records.py",
    ),
    "filters.md": ("speed_assets/assets/*", "speed_assets/domain/*"),
}
"""By page, patterns of its modules; the first page that matches has it."""


def first_sentence(file: Path) -> str:
    """The first line of a module's docstring, without its final stop."""
    return (ast.get_docstring(ast.parse(file.read_text())) or "").split("\n")[0].rstrip(".")


def modules() -> list[str]:
    """Every module of the product, relative to the project."""
    roots = ("speed_assets", "resources", "checks")
    return sorted(str(path.relative_to(PROJECT)) for root in roots for path in (PROJECT / root).rglob("*.py"))


def page_of(module: str) -> str | None:
    """The page that lists a module: the first whose patterns match it."""
    return next((page for page, patterns in PAGES.items() if any(fnmatch(module, p) for p in patterns)), None)


def table(page: str) -> str:
    """The table of one page, between its marks."""
    rows = [f"| `{module}` | {first_sentence(PROJECT / module)} |" for module in modules() if page_of(module) == page]
    return "\n".join([BEGIN, "| module | |", "|---|---|", *rows, END])


def written(page: str) -> str:
    """The text of a page with its table as it should be."""
    text = (PAGES_FOLDER / page).read_text()
    before, _, rest = text.partition(BEGIN)
    return before + table(page) + rest.partition(END)[2]


def main() -> None:
    if missing := [module for module in modules() if page_of(module) is None]:
        sys.exit(f"on no page of docs/architecture (scripts/module_tables.py): {', '.join(missing)}")
    stale = [page for page in PAGES if written(page) != (PAGES_FOLDER / page).read_text()]
    if "--check" in sys.argv:
        sys.exit(f"stale tables in {', '.join(stale)}: run python -m scripts.module_tables" if stale else 0)
    for page in stale:
        (PAGES_FOLDER / page).write_text(written(page))


if __name__ == "__main__":
    main()
