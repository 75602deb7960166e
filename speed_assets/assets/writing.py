"""What the writing stages share: prompts in, parsed rows out, and which rows are right in the microworld.

Belongs here: steps that several assets take in the same way. Not here: any one asset.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from shutil import copyfile
from typing import Any

import polars as pl

from resources.compute.generator import generate, model_source
from resources.inputs.evaluation_sets import TASK_TEXTS, offline_evaluation_texts, task_texts
from resources.inputs.judged_queries import judged_query_texts
from resources.redaction import masked_table
from resources.store.store import UNHASHED_DIR
from speed_assets.assets.stage_run import StageRun
from speed_assets.domain.answers import CUT_OFF
from speed_assets.domain.asking import Asking
from speed_assets.domain.fingerprints import digest
from speed_assets.domain.given_texts import NoSentence, given_rows
from speed_assets.domain.graph import ALIGNMENT, EVALUATION_TEXTS, PASSAGES
from speed_assets.domain.grounded import grounded_rows
from speed_assets.domain.grounded_rules import first_broken_rules_by_source
from speed_assets.domain.problems import problem_sentence
from speed_assets.domain.prompts import schema_for
from speed_assets.domain.row_languages import language_columns
from speed_assets.domain.rows import ask_until_valid, cut_off_attempts, parse_outputs, synthesis_rows
from speed_assets.domain.task_types import TASK_TYPES
from speed_assets.microworld.toy_records import Truth, truth_of_record
from speed_assets.recipe import PerTaskType, RecipeError, Rules, Sampling

WRITTEN = ("row_id", "task_id", "task_type", "topic", "task", "prompt", "output", "query", "positive", "negative")
_KEY = {"row_id": pl.String, "candidate": pl.Int64, "prompt": pl.String, "max_new_tokens": pl.Int64}
_OUTPUT = {
    "output": pl.String,
    "prompt_tokens": pl.Int64,
    "output_tokens": pl.Int64,
    "finished": pl.Boolean,
    "error": pl.String,
}
GENERATED = (*WRITTEN, "candidate", "prompt_tokens", "output_tokens", "valid", "problem")


def asked_rows(run: StageRun[Any], rows: PerTaskType) -> pl.DataFrame:
    """The rows that a writing stage asks for in its task type, with their prompts; grounded ones with their `passage`. Raises RecipeError."""
    assert run.stage.takes is not None
    kind = TASK_TYPES[run.task_type]
    source = _source(run, grounded=kind.grounded).filter(run.stage.takes)
    asking = asking_of(run, run.task_type, getattr(rows, run.task_type), run.recipe.seed)
    if kind.passage == "query":
        try:
            return given_rows(source, asking, run.recipe.grounded_rows.texts())
        except NoSentence as error:
            raise RecipeError(
                f"{run.stage.name}/{run.task_type}: {error}: lower grounded_rows.sts.words_min, raise grounded_rows.sts.words_max, or set "
                "corpus.shares.sts to 0"
            ) from None
    return (
        grounded_rows(source, asking, run.recipe.queries.drawn()) if kind.grounded else synthesis_rows(source, asking)
    )


def _source(run: StageRun[Any], *, grounded: bool) -> pl.DataFrame:
    """The tasks or passages that a stage writes about; the alignment may have passages of documents of its own."""
    if not grounded:
        return run.input("task_list").table()
    passages = run.input(PASSAGES)
    aligned = passages.table(ALIGNMENT) if run.stage.takes == ALIGNMENT else pl.DataFrame()
    return aligned if aligned.width else passages.table()


def asking_of(run: StageRun[Any], task_type: str, rows: int, seed: int) -> Asking:
    """What a stage asks its writer for, with the prompts, lengths and languages of its recipe.

    Args:
        run: the stage.
        task_type: of the rows.
        rows: their number.
        seed: of the draws.
    """
    return Asking(run.stage.name, task_type, rows, seed, run.prompts, run.recipe.answers.lengths(), run.languages)


def asked_again(run: StageRun[Any], pending: pl.DataFrame, attempt: int) -> list[str]:
    """The prompts of a further attempt: what was cut off is asked in the same words, with more room; the others with
    what was wrong with the last answer."""
    if not attempt:
        return pending["prompt"].to_list()
    texts = run.prompts
    return [
        prompt if problem == CUT_OFF else texts.ask_again(prompt, problem_sentence(problem))
        for prompt, problem in pending.select("prompt", "problem").iter_rows()
    ]


def keeping_rules(rows: pl.DataFrame, rules: Rules | None, seed: int) -> pl.DataFrame:
    """Parsed rows, of which those that break a rule are no longer valid: their problem is `rule:CODE`.

    Args:
        rows: row_id, task_type, topic, task, query, positive, negative, valid, problem.
        rules: the rules; None asks for none.
        seed: that of the recipe, from which the lengths asked for are drawn again.
    """
    if rules is None or rows.is_empty():
        return rows
    broken = first_broken_rules_by_source(rows, **rules.model_dump(exclude={"skip"}), skip=rules.skip, seed=seed)[
        "reason"
    ]
    code = pl.when(pl.col("valid") & broken.is_not_null()).then(pl.lit("rule:") + broken)
    return rows.with_columns(problem=pl.coalesce("problem", code)).with_columns(valid=pl.col("problem").is_null())


def write_with(
    run: StageRun[Any], model: str, rows: PerTaskType, candidates: int, sampling: Sampling, attempts: int = 1
) -> dict[str, Any]:
    """Write the table of a generator: its candidates for every row asked for, parsed, valid or not.

    Args:
        run: the stage.
        model: the input whose model writes.
        rows: as many prompts of each task type are asked.
        candidates: outputs of each prompt.
        sampling: how they are drawn.
        attempts: how often an invalid row is asked for, the first time included.

    Returns:
        The stage's metadata.
    """
    numbers = pl.DataFrame({"candidate": range(candidates)}, schema={"candidate": pl.Int64})
    prompts = asked_rows(run, rows).join(numbers, how="cross", maintain_order="left_right")
    generations: list[dict[str, Any]] = []

    def ask(attempt: int, pending: pl.DataFrame) -> pl.DataFrame:
        asks = pending.select(prompts.columns).with_columns(
            # Each candidate number has draws of its own.
            pl.col("candidate") + attempt * candidates,
            pl.Series("prompt", asked_again(run, pending, attempt), dtype=pl.String),
            pl.Series(
                "max_new_tokens",
                run.limits(sampling, pending["words"], cut_off_attempts(pending, attempt)),
                dtype=pl.Int64,
            ),
        )
        name = f"outputs_{attempt}" if attempt else "outputs"
        outputs, made = generated(run, model, asks, sampling, schema_for("synthesis", run.task_type), name)
        generations.append(made)
        own = [name for name in ("candidate", "prompt", "passage") if name in pending.columns]
        outputs = outputs.drop("max_new_tokens").with_columns(pending[name] for name in own)
        return parse_outputs(outputs, run.task_type).with_columns(problem=pl.coalesce("error", "problem"))

    parsed, again = ask_until_valid(prompts, attempts, ask)
    written = parsed.select(*GENERATED, *language_columns(parsed))
    run.write(written)
    plot_reading(run, parsed)
    about = {
        **generation_metadata(written),
        "generation": generations[0]["generation"],
        **{name: sum(made[name] for made in generations) for name in ("generated_rows", "known_rows")},
        "asked_again": again,
        "read_as": read_as(parsed),
    }
    return {**about, **truth(run, written, written.height)}


def generated(
    run: StageRun[Any],
    model: str,
    prompts: pl.DataFrame,
    sampling: Sampling,
    schema: dict[str, Any],
    name: str = "outputs",
) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Generate, and reuse cached rows (same model, prompt and settings): a few new topics cost a few rows.

    Args:
        run: the stage that generates.
        model: the input whose model writes.
        prompts: row_id, candidate, prompt; `max_new_tokens` where rows have limits of their own.
        sampling: how outputs are drawn.
        schema: JSON schema of an output.
        name: of the cache; a stage that generates more than once gives each time its own.

    Returns:
        `prompts` with output, prompt_tokens, output_tokens, finished and error, and what that took as metadata.
    """
    recipe = run.recipe
    if "max_new_tokens" not in prompts.columns:
        prompts = prompts.with_columns(pl.lit(sampling.max_new_tokens, pl.Int64).alias("max_new_tokens"))
    named = [
        recipe.generator.model_dump(mode="json"),
        sampling.model_dump(),
        recipe.seed,
        run.input(model).digest,
        schema,
    ]
    generation = digest(named)
    key = list(_KEY)
    cached = _outputs_before(run, generation, name)
    new = prompts.join(cached, on=key, how="anti", maintain_order="left") if cached.height else prompts
    outputs = cached
    if new.height:
        made = generate(
            run.runner,
            recipe.generator,
            run.unfingerprinted.runtime,
            model_source(recipe.generator, run.input(model)),
            new,
            sampling,
            recipe.seed,
            run.scratch / name,
            run.progress,
            schema,
        ).select(*key, *_OUTPUT)
        outputs = pl.concat([cached, made]) if cached.height else made
    outputs = masked_table(outputs)
    answers = prompts.join(outputs, on=key, how="left", maintain_order="left", validate="1:1")
    answers.select(*key, *_OUTPUT).write_parquet(run.unhashed / f"{name}.parquet", compression="zstd")
    return answers, {"generation": generation, "generated_rows": new.height, "known_rows": prompts.height - new.height}


def _outputs_before(run: StageRun[Any], generation: str, name: str) -> pl.DataFrame:
    """Outputs in complete artifacts of this stage and task type that were made in the same way."""
    columns = _KEY | _OUTPUT
    tables = [
        table.select(*columns).filter(pl.col("error").is_null())
        for table in made_before(run, f"{name}.parquet", "generation", generation)
        if {*columns} <= {*table.columns}  # older versions kept no limits
    ]
    return pl.concat([pl.DataFrame(schema=columns), *tables]).unique(list(_KEY), keep="first", maintain_order=True)


def made_before(run: StageRun[Any], file: str, name: str, value: str) -> list[pl.DataFrame]:
    """Tables of complete artifacts of this stage and partition.

    Args:
        run: the stage.
        file: of the unhashed folder; artifacts without it are passed over.
        name: a key of the metadata.
        value: what those artifacts have under `name`.
    """
    store = run.store
    manifests = (
        manifest
        for manifest in store.manifests(run.stage.name, run.partition)
        if manifest["metadata"].get(name) == value
    )
    found = (store.fetch(run.stage.name, manifest["fingerprint"]) for manifest in manifests)
    files = [artifact.path / UNHASHED_DIR / file for artifact in found if artifact is not None]
    # A later reading (`outputs_1`) is not there where none was needed.
    return [pl.read_parquet(path) for path in files if path.exists()]


def generation_metadata(rows: pl.DataFrame) -> dict[str, Any]:
    """Rates and token counts of generated rows."""
    return {
        "asked": rows.height,
        "valid_share": _share(rows["valid"]),
        "problems": problem_counts(rows),
        "prompt_tokens": int(rows["prompt_tokens"].sum()),
        "output_tokens": int(rows["output_tokens"].sum()),
        "mean_output_tokens": round(float(rows["output_tokens"].mean() or 0.0), 1),  # type: ignore[arg-type]
    }


def read_as(rows: pl.DataFrame) -> dict[str, int]:
    """How many answers the parse funnel read at each of its steps."""
    return dict(rows["read_as"].value_counts(sort=True).iter_rows())


def plot_reading(run: StageRun[Any], rows: pl.DataFrame) -> None:
    """How many answers each step of the parse funnel read, and what was wrong with the others, as bars; nothing in a plan."""
    if run.dry:
        return
    from matplotlib.figure import Figure

    read, problems = read_as(rows), problem_counts(rows)
    bars = [(name, count, "#4c72b0") for name, count in read.items() if name != "unread"]
    bars += [(name.split(":")[0], count, "#c44e52") for name, count in list(problems.items())[:8]]
    figure = Figure(figsize=(5, 0.3 * len(bars) + 0.8), dpi=110, layout="constrained")
    axes = figure.subplots()
    names = [f"{name} ({place})" for place, (name, _, _) in enumerate(bars, 1)][::-1]
    drawn = axes.barh(names, [count for _, count, _ in bars][::-1], color=[colour for _, _, colour in bars][::-1])
    axes.bar_label(drawn, padding=3, fontsize=8)
    axes.set_xlabel("answers: read as (blue), problems (red)")
    axes.margins(x=0.15)
    figure.savefig(run.unhashed / "parse_funnel.png")


def problem_counts(rows: pl.DataFrame) -> dict[str, int]:
    """How many rows have each problem, most frequent first."""
    return dict(Counter(p for p in rows["problem"] if p is not None).most_common())


def truth(run: StageRun[Any], rows: pl.DataFrame, asked: int) -> dict[str, Any]:
    """{"truth": shares of the `asked` rows} in the microworld, else {}: nobody else knows.

    `rows` holds task_type, task, query, positive, negative; rows that are not there count as wrong.
    """
    found = truths(run, rows)
    if found is None or not asked:
        return {}
    parts = ("valid", "on_topic", "positive_right", "negative_right", "all_right")
    return {"truth": {part: round(sum(getattr(t, part) for t in found) / asked, 4) for part in parts}}


def truths(run: StageRun[Any], rows: pl.DataFrame) -> list[Truth] | None:
    """What is true of each row (task_type, task, query, positive, negative) in the microworld, else None."""
    teacher = run.recipe.teacher if "teacher" in run.stage.reads else run.unfingerprinted.teacher
    if teacher.engine != "microworld":
        return None
    return [
        truth_of_record(row["task_type"], row["task"], TASK_TYPES[row["task_type"]].record(row))
        for row in rows.select("task_type", "task", "query", "positive", "negative").iter_rows(named=True)
    ]


def evaluation_texts(run: StageRun[Any]) -> dict[str, Sequence[str] | pl.Series]:
    """Every text that must not be in the triplets, by evaluation task: of folders, of the microworld, judged queries, and of the mteb tasks
    that the recipe names (`evaluation_texts`), which the checks read again from the unhashed folder of the artifact.
    """
    if EVALUATION_TEXTS in run.inputs:
        _linked(run.input(EVALUATION_TEXTS).path / "data.parquet", run.unhashed / TASK_TEXTS)
    own = run.unfingerprinted.own_evaluation if "judged_queries" in run.stage.externals else None
    return {**offline_evaluation_texts(run.recipe.evaluation), **judged_query_texts(own), **task_texts(run.out)}


def _linked(source: Path, target: Path) -> None:
    """The file under a second name, as a hard link where the disk has those."""
    target.unlink(missing_ok=True)
    try:
        target.hardlink_to(source)
    except OSError:
        copyfile(source, target)


def _share(column: pl.Series) -> float:
    return round(float(column.mean() or 0.0), 4)  # type: ignore[arg-type]
