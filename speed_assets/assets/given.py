"""What the user gives in the place of an artifact: a model that is copied, or triplets that pass the filters for any text.

Belongs here: the functions of given stages. Not here: which stages these are (`domain/graph/given_stages.py`), what a folder may hold
(`resources/inputs/given_models.py`).
"""

from __future__ import annotations

import json
from typing import Any

import polars as pl

from resources.inputs.base_models import is_on_hub
from resources.inputs.example_files import complete_fields, problem_of_record, read_examples, refusals
from resources.inputs.given_models import checked_base, files_to_copy
from resources.inputs.hub_revisions import cached_commit
from resources.inputs.safe_models import BASE
from speed_assets.assets.negatives import MORE
from speed_assets.assets.stage_run import StageFunction, StageRun
from speed_assets.assets.triplets import filtered, finished
from speed_assets.assets.writing import evaluation_texts
from speed_assets.domain.fingerprints import short_id
from speed_assets.domain.graph import GENERATORS, external_of
from speed_assets.domain.graph.stages import Kind
from speed_assets.domain.task_types import GROUNDED, TASK_TYPES
from speed_assets.recipe import FinalTriplets, GivenTriplets, without_places

OWN = "own rows"
"""Topic of given triplets."""


def given_model(run: StageRun[Any]) -> dict[str, Any]:
    """A copy of the user's model: `model/`, or `adapter/` of an adapter on the generators' base.

    Raises:
        RecipeError: there is no such model, or it cannot stand for the stage.
    """
    section, stage = run.given, run.stage.name
    generator = run.recipe.generator if stage in GENERATORS else None
    files = files_to_copy(stage, section, generator)
    target = files.copy_to(run.out, run.progress)
    if files.part == "adapter" and generator is not None:
        base = {"base": generator.base, "revision": generator.revision, "digest": run.externals["generator_base"]}
        told = checked_base(files, base, f"given.{stage}.model {without_places(section.model)}")
        (target / BASE).write_text(json.dumps(told, indent=2, sort_keys=True) + "\n")
    return {**given_by_user(run), "files": len(files.names), "bytes": files.size}


def given_by_user(run: StageRun[Any]) -> dict[str, Any]:
    """{"given": name, revision and digest of what was given}: a folder or file of this machine by its last name."""
    section = run.given
    if isinstance(section, GivenTriplets):
        found = {"name": without_places(section.file)}
    else:
        found = {"name": without_places(section.model)}
        if is_on_hub(section.model):
            found["revision"] = cached_commit(section.model, section.revision)
    return {"given": {**found, "digest": run.externals[external_of(run.stage.name)]}}


def given_triplets(run: StageRun[FinalTriplets]) -> dict[str, Any]:
    """The user's triplets but repeats and copies of evaluation texts, which are in the quarantine with rows that are not whole.

    Further negatives of a row are in a table of their own. No rule, score or verdict applies: those are for what a model wrote.
    """
    evaluation = evaluation_texts(run)
    rows = _rows(run, run.given)
    asked = dict(rows["task_type"].value_counts(sort=True).iter_rows())
    funnel = filtered(
        rows.drop("further"),
        run.section,
        evaluation,
        run.recipe.seed,
        run.stage.name,
        run.progress,
        written=False,
    )
    kept = rows.filter(pl.col("row_id").is_in(funnel.rows["row_id"].implode()))
    more = kept.unique("row_id").select("row_id", negative="further").explode("negative").drop_nulls("negative")
    run.write(
        more.sort("row_id", maintain_order=True).with_columns(number=2 + pl.int_range(pl.len()).over("row_id")), MORE
    )
    return {**given_by_user(run), **finished(run, funnel, evaluation, rows.height, asked)}


def _rows(run: StageRun[FinalTriplets], section: GivenTriplets) -> pl.DataFrame:
    """The rows of the file as those of a table of written ones: `valid` and `problem` say which are whole.

    A retrieval row without a negative is a grounded one, and the other way round: the two differ in nothing else.
    """
    rows = read_examples(section, "given.final_triplets").with_columns(
        pl.col("task_type").fill_null(section.task_type), pl.col("task").fill_null(section.task), topic=pl.lit(OWN)
    )
    swapped = {(GROUNDED, True): "retrieval", ("retrieval", False): GROUNDED}
    kinds = [
        swapped.get((kind, has), kind)
        for kind, has in rows.select("task_type", pl.col("negative").is_not_null()).iter_rows()
    ]
    checked = refusals(rows.with_columns(pl.Series("task_type", kinds, dtype=pl.String)))
    problems = [row["reason"] or _problem(row) for row in checked.iter_rows(named=True)]
    named = ("task_type", "task", "query", "positive", "negative")
    ids = [short_id("given", *(text or "" for text in row)) for row in checked.select(named).iter_rows()]
    found = checked.with_columns(
        pl.Series("problem", problems, dtype=pl.String),
        pl.Series("row_id", ids, dtype=pl.String),
        # A row of a type that does not exist is in the quarantine, under the default.
        task_type=pl.when(pl.col("task_type").is_in(list(TASK_TYPES)))
        .then("task_type")
        .otherwise(pl.lit(section.task_type)),
    ).with_columns(valid=pl.col("problem").is_null())
    if "rehearsal" in run.stage.reads:
        found = found.group_by("task_type", maintain_order=True).head(run.recipe.rehearsal.rows)
    return found.drop("reason", "detail", "line")


def _problem(row: dict[str, Any]) -> str | None:
    """Why a row of a known task type is no triplet of it; None for a whole one."""
    kind = TASK_TYPES[row["task_type"]]
    missing = [field for field in complete_fields(row["task_type"]) if row[field] is None]
    if missing:
        return f"no_{missing[0]}"
    if row["negative"] is not None and not kind.takes_negative:
        return "negative_of_matching"
    if row["negative"] == row["positive"]:
        return "same_text"
    return problem_of_record(row["task_type"], row)


GIVEN_FUNCTIONS: dict[Kind, StageFunction] = {"model": given_model, "table": given_triplets}
"""The function of a given stage, by its kind."""
