"""Probes of what a recipe names on this machine and of its own numbers: topics, prompts, evaluation sets, prices, batches.

Nothing here asks anybody outside. Belongs here: those probes. Not here: the machine (`machine_probes.py`), models (`model_probes.py`).
"""

from __future__ import annotations

import re
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from resources.inputs.enough_topics import crowded_prompts, topic_counts
from resources.inputs.evaluation_sets import scored_folders
from resources.inputs.example_files import examples_digest, read_examples
from resources.inputs.external_digests import evaluation_notes
from resources.inputs.judged_queries import JudgedQueries, read_judged_queries
from resources.inputs.prompt_files import prompts_of
from resources.inputs.unused_examples import example_use, no_example_is_used
from speed_assets.domain.dialect_presets import PRESETS, preset_for
from speed_assets.domain.machine_needs import in_units
from speed_assets.orchestration.doctor.corpus_probes import document_ids
from speed_assets.orchestration.doctor.finding import Finding, error, ok, warning
from speed_assets.recipe import Recipe, RecipeError

_READ_BYTES = 100_000_000
"""Bytes of a file of given rows up to which it is read here (ours: some seconds)."""
_TEXT_FILES = (".jsonl", ".json", ".parquet", ".tsv", ".csv")


def topics(recipe: Recipe) -> list[Finding]:
    """Topic files can be read, and hold as many topics as the recipe asks for."""
    if recipe.given_names() and "topics" not in recipe.graph():
        return [ok("topics", "none are needed: nothing is written")]
    try:
        counts = topic_counts(recipe.topics)
    except (RecipeError, OSError) as problem:
        return [error("topics", str(problem), "topics.file, or --topics FILE")]
    least = min(counts.values())
    if least < recipe.topics.at_least:
        file = recipe.topics.file
        return [
            error(
                "topics",
                f"{file} has {least} usable topics, fewer than topics.at_least={recipe.topics.at_least}",
                "add topics, or lower topics.at_least",
            )
        ]
    try:
        crowded = crowded_prompts(recipe)
    except RecipeError:
        crowded = []  # of the prompts: their own probe reports it
    if crowded:
        first = crowded[0]
        words = (
            f"{first['stage']}/{first['task_type']} asks for {first['rows_per_prompt']:.1f} rows of each prompt, and "
            f"{len(crowded) - 1} more stages for too many"
        )
        mend = f"give {first['topics_needed']:,} topics, set topics.expand, or raise topics.rows_per_prompt_max"
        return [error("topics", words, mend) if recipe.topics.refuse else warning("topics", words, mend)]
    return [ok("topics", f"{least:,} usable topics")]


def prompts(recipe: Recipe) -> list[Finding]:
    """The prompt set and the user's own wording can be read."""
    try:
        loaded = prompts_of(recipe)
    except (RecipeError, ValueError, OSError) as problem:
        return [error("prompts", str(problem), "prompts.file")]
    own = ", with your own wording" if recipe.prompts.file else ""
    return [ok("prompts", f"set {loaded.name}{own}")]


def evaluation(recipe: Recipe) -> list[Finding]:
    """Evaluation sets in folders are there, described as they should be, and their judgements can be scored."""
    found: list[Finding] = []
    notes: list[str] = []
    try:
        scored_folders(recipe.evaluation.local)
    except (RecipeError, OSError) as problem:
        found.append(error("evaluation", str(problem), "evaluation.local"))
    for folder in recipe.evaluation.local:
        path = Path(folder)
        if not path.is_dir():
            found.append(error("evaluation", f"there is no folder {path}", "evaluation.local"))
        elif not any(file.name.removesuffix(".gz").endswith(_TEXT_FILES) for file in path.rglob("*")):
            found.append(error("evaluation", f"no {', '.join(_TEXT_FILES)} file below {path}", "evaluation.local"))
        elif sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) <= _READ_BYTES:
            try:
                notes = evaluation_notes(recipe)  # reads every file to its end
            except (RecipeError, OSError) as problem:
                found.append(error("evaluation", str(problem), "evaluation.local"))
    found = list(dict.fromkeys(found)) or [warning("evaluation", note, "evaluation.local") for note in notes]
    return found or [ok("evaluation", _sets(recipe))]


def _sets(recipe: Recipe) -> str:
    section = recipe.evaluation
    parts = [f"{len(section.local)} folders" if section.local else "", ", ".join(section.tasks)]
    return "; ".join(filter(None, [*parts, "the microworld" if section.microworld else ""]))


def examples(recipe: Recipe) -> list[Finding]:
    """The user's examples can be read and are used; where there is no teacher, they are as many as the first rows."""
    section = recipe.examples
    if section is None:
        return []
    name, mend = "examples", "examples.file, examples.columns"
    try:
        use = example_use(recipe)
    except (RecipeError, OSError) as problem:
        return [error(name, str(problem), mend)]
    assert use is not None
    if not use.used:
        return [error(name, no_example_is_used(recipe, use), f"{mend}, examples.task_type")]
    words = f"{use.used:,} of {use.rows:,} rows"
    if recipe.teacher.engine == "none":
        for task_type, complete in use.complete.items():
            asked: int = getattr(recipe.seed_data.rows, task_type)
            if complete < asked:
                return [
                    error(
                        name,
                        f"{complete:,} complete {task_type} rows, seed_data asks for {asked:,}, and there is no teacher",
                        f"seed_data.rows.{task_type}, or more rows",
                    )
                ]
    elif not (section.hosted_teachers or recipe.teacher.on_this_machine()):
        words += "; none is sent to the teacher (examples.hosted_teachers)"
    return [ok(name, words), *(warning(name, line, "the file of examples.file") for line in use.unused)]


def judged_queries(recipe: Recipe) -> list[Finding]:
    """The user's judged queries can be read, and some are judged or will be."""
    own = recipe.own_evaluation
    if own is None or own.queries is None:
        return []
    try:
        found = read_judged_queries(own)
    except (RecipeError, OSError) as problem:
        return [error("judged queries", str(problem), "own_evaluation.queries, own_evaluation.columns")]
    judged = len({query for query, *_ in found.judgements} & found.queries.keys())
    words = f"{judged:,} of {len(found.queries):,} queries are judged"
    if not judged and own.pooled is None:
        return [error("judged queries", words, "own_evaluation.columns, or own_evaluation.pooled")]
    return [ok("judged queries", words), *_pointing_nowhere(recipe, found)]


def _pointing_nowhere(recipe: Recipe, found: JudgedQueries) -> list[Finding]:
    """Judgements of documents that neither the corpus nor the file itself has: an error where no other is left."""
    place = recipe.corpus.path if recipe.corpus else None
    if recipe.corpus is None or place is None or not Path(place).exists():
        return []  # a probe of its own reports it; documents on a hub are not read here
    known, left = document_ids(recipe.corpus, Path(place))
    gone = [document for _, document, _ in found.judgements if document not in known and not found.texts.get(document)]
    if not gone or left:
        return []
    words = (
        f"{len(gone):,} of {len(found.judgements):,} judgements are of documents that are not there, {gone[0]!r} first"
    )
    mend = "own_evaluation.queries: a document is named by its path below corpus.path or by its id"
    return [(error if len(gone) == len(found.judgements) else warning)("judged queries", words, mend)]


def given_rows(recipe: Recipe) -> list[Finding]:
    """The user's triplets are there; a file that is not too large for it is read."""
    section = recipe.given.final_triplets if recipe.given else None
    if section is None:
        return []
    name, mend = "given rows", "given.final_triplets: file, columns"
    try:
        examples_digest(section, "given.final_triplets")
        size = Path(section.file).stat().st_size
        if size > _READ_BYTES:
            return [ok(name, f"{Path(section.file).name}, {in_units(size)}")]
        rows = read_examples(section, "given.final_triplets")
    except (RecipeError, OSError) as problem:
        return [error(name, str(problem), mend)]
    whole = rows.drop_nulls(["query", "positive"]).height
    if not whole:
        return [error(name, f"none of {rows.height:,} rows has a query and a positive", mend)]
    return [ok(name, f"{whole:,} of {rows.height:,} rows have a query and a positive")]


def mteb_names(recipe: Recipe) -> list[Finding]:
    """Names of tasks and benchmarks are mteb's: its source is searched, since importing it takes seconds."""
    wanted = recipe.evaluation.tasks
    if not wanted:
        return []
    names = _names_in_mteb()
    if not names:
        return []  # it is not installed: `packages` says so
    missing = [name for name in wanted if name not in names]
    if missing:
        return [error("mteb tasks", f"mteb has no task or benchmark {', '.join(missing)}", "evaluation.tasks")]
    return [ok("mteb tasks", f"mteb has {', '.join(wanted)}")]


@lru_cache(maxsize=1)
def _names_in_mteb() -> frozenset[str]:
    spec = find_spec("mteb")
    if spec is None or spec.origin is None:
        return frozenset()
    root, names = Path(spec.origin).parent, set()
    for folder in ("tasks", "benchmarks"):
        for file in (root / folder).rglob("*.py"):
            names.update(re.findall(r"name=\"([^\"]+)\"", file.read_text(encoding="utf-8", errors="replace")))
            names.update(re.findall(r"aliases=\[\"([^\"]+)\"", file.read_text(encoding="utf-8", errors="replace")))
    return frozenset(names)


def prices(recipe: Recipe) -> list[Finding]:
    """Every model that is asked for money has a price."""
    if recipe.teacher.engine != "openai":
        return []
    if recipe.money.prices is None:
        return [
            ok("prices", "none named; the server is on this machine")
            if recipe.teacher.on_this_machine()
            else warning("prices", "the recipe names none: what a run costs is unknown", "money.prices")
        ]
    panel = recipe.preference_pairs.panel if recipe.preference_pairs else ()
    known = recipe.money.prices.models
    missing = [
        model
        for model in dict.fromkeys((recipe.teacher.model, *panel))
        if model not in known or None in (known[model].input_per_million, known[model].output_per_million)
    ]
    if missing:
        return [
            warning(
                "prices",
                f"the price of {', '.join(missing)} is not known: what its calls cost is unknown",
                f"money.prices.models.{missing[0]}: input_per_million and output_per_million",
            )
        ]
    return [ok("prices", f"table {recipe.money.prices.version}, {recipe.money.prices.currency}")]


def batches(recipe: Recipe) -> list[Finding]:
    """Batch files are sent to servers that take them, and used where they save money."""
    if recipe.teacher.engine != "openai":
        return []
    name = recipe.teacher.dialect.preset or preset_for(recipe.teacher.endpoint, recipe.teacher.model)
    has = PRESETS[name].batches if name else None
    if recipe.calls.mode == "batch" and has is False:
        return [
            error(
                "batches",
                f"calls.mode=batch, and {name} takes no batch files of OpenAI's form: every call would be refused",
                "calls.mode: online",
            )
        ]
    if recipe.calls.mode == "batch":
        return [ok("batches", "calls go out in batch files, and come back within a day")]
    more = f"; {name} answers batch files at a lower price, within a day (calls.mode: batch)" if has else ""
    return [ok("batches", f"calls are made at once{more}")]
