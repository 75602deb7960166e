"""Commands that make artifacts, or plan to: `run`, `plan`, `rehearse`, `study`, `ui`.

Belongs here: their arguments and what they print. Not here: running (`speed_assets/orchestration`).
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from speed_assets.cli import checking
from speed_assets.cli.live import busy_with, progress_display
from speed_assets.cli.options import (
    DEFAULT_RECIPE,
    JsonAtEndOption,
    JsonOption,
    RecipeOption,
    SetOption,
    TopicsOption,
    home_to_run_in,
    load,
    prepared_home,
    rows_count,
)
from speed_assets.cli.output import fail, note, out, printable, show, show_json, show_table

PANEL = "Running"


def register(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    for name, function, example in (
        ("run", run, "speed run --recipe laptop --select '*embedding_model'"),
        ("plan", plan, "speed plan --recipe laptop --json"),
        ("rehearse", rehearse, "speed rehearse --recipe gpu --rows 8 --skip-evaluation"),
        ("study", study, "speed study --seeds 1 2 3"),
        ("ui", ui, "speed ui --port 3001"),
    ):
        app.command(name, rich_help_panel=PANEL, epilog=f"Example: {example}")(function)


def run(
    recipe: RecipeOption = DEFAULT_RECIPE,
    topics: TopicsOption = None,
    select: Annotated[
        str | None,
        typer.Option(
            "--select",
            metavar="SELECTION",
            help="Dagster asset selection: `*embedding_model` is the asset and everything upstream, `senior_model*` "
            "the asset and everything downstream.",
        ),
    ] = None,
    changed: SetOption = None,
    as_json: JsonAtEndOption = False,
) -> None:
    """Materialize everything that is stale, and end with a table."""
    loaded, home = load(recipe, topics, changed, makes_rows=True), prepared_home()
    from resources.store.shared_store import store_of
    from resources.store.snapshot import Snapshot
    from speed_assets.orchestration import run_report, runs
    from speed_assets.recipe import changes_of

    with progress_display() as display:
        display.say(f"recipe {loaded.name}, home {home}")
        changes = changes_of(changed or ())
        report = runs.run(
            loaded, home, select=select, changes=changes, progress=display, say=display.say, check_first=True
        )
        summary = run_report.summary(report, Snapshot(loaded, store_of(home)))
        if not report.made and not report.errors:
            display.say("nothing was stale: every artifact is reused")
    _show_summary(summary, report)
    of_run = bool(changes) or not summary["release"]  # the latest state of the recipe as written is another one then
    show([f"report: speed report {f'{report.run} ' if of_run else ''}--open"])
    for error in report.errors:
        fail(error)
    if as_json:
        show_json(summary)
    if report.errors:
        raise typer.Exit(1)


def _show_summary(summary: dict[str, Any], report: Any) -> None:
    checks = summary["checks"]
    show(
        [
            "",
            f"{summary['recipe']}: {len(report.made)} made, {len(report.reused)} reused in {summary['wall_s']} s",
            f"teacher calls {summary['teacher_calls']} (reused {summary['reused_calls']}), "
            f"checks {checks['passed']} passed, {checks['failed']} failed, {checks['warned']} warned",
        ]
    )
    if summary["funnel"]:
        out()
        rows = [
            [step["step"], *(f"{step[n]:,}" for n in ("rows_in", "removed", "rows_out"))] for step in summary["funnel"]
        ]
        show_table(["filter of final_triplets", "rows in", "removed", "rows out"], rows)
    if summary["truth"]:
        parts = list(next(iter(summary["truth"].values())))
        out()
        rows = [[name, *(f"{truth[part]:.3f}" for part in parts)] for name, truth in summary["truth"].items()]
        show_table(["share of asked rows", *parts], rows)
    if summary["scores"]:
        out()
        show_table(*score_table(summary["scores"]), best=True)
    show(["", f"release: {summary['release'] or 'none'}"])


def score_table(scores: dict[str, dict[str, float]]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a score table: tasks as rows, models as columns, reruns as their mean.

    Args:
        scores: {model: {task: score of 0..1}}, the released model among them.
    """
    reruns = {name: of for name, of in scores.items() if " rerun " in name}
    columns = {name: of for name, of in scores.items() if name not in reruns}
    tasks = list(next(iter(columns.values())))
    if reruns:
        means = {task: sum(of[task] for of in reruns.values()) / len(reruns) for task in tasks}
        columns[f"mean of {len(reruns)} reruns"] = means
    rows = [[task, *(f"{of[task]:.3f}" for of in columns.values())] for task in tasks]
    rows.append(["mean", *(f"{sum(of.values()) / len(of):.3f}" for of in columns.values())])
    return ["score", *columns], rows


def plan(
    recipe: RecipeOption = DEFAULT_RECIPE,
    topics: TopicsOption = None,
    changed: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Dry run: what a run would make, why, and the estimated cost. Makes no API calls."""
    with busy_with("reading the recipe, its inputs and the home"):
        loaded, home = load(recipe, topics, changed, makes_rows=True), prepared_home()
        from speed_assets.orchestration.plan import plan as make_plan
        from speed_assets.orchestration.plan_text import as_text

        planned = make_plan(loaded, home)
        planned = replace(planned, warnings=[*planned.warnings, *checking.warnings_of(loaded, home)])
    if as_json:
        show_json(planned.as_json())
        return
    show(map(printable, as_text(planned)))


def rehearse(
    recipe: RecipeOption = DEFAULT_RECIPE,
    topics: TopicsOption = None,
    rows: Annotated[
        int,
        typer.Option(
            "--rows", parser=rows_count, metavar="N", help="Rows of each task type in each stage; 4 at least."
        ),
    ] = 8,
    skip_evaluation: Annotated[
        bool,
        typer.Option("--skip-evaluation", help="Score small sets of this project in place of the recipe's evaluation."),
    ] = False,
    as_json: JsonAtEndOption = False,
) -> None:
    """Run the complete recipe on a few rows, in a home of its own, and estimate the full run."""
    loaded, home = load(recipe, topics, makes_rows=True), home_to_run_in()
    from speed_assets.orchestration import rehearsal_report
    from speed_assets.orchestration import rehearse as rehearsal

    with progress_display() as display:
        place = rehearsal.home_of(home, loaded)
        display.say(f"rehearsal of recipe {loaded.name}, home {place}")
        done = rehearsal.rehearse(
            loaded,
            home,
            rows=rows,
            skip_evaluation=skip_evaluation,
            progress=display,
            say=display.say,
            check_first=True,
        )
        report = rehearsal_report.as_json(loaded, done, skip_evaluation)
    show(map(printable, rehearsal_report.as_text(report)))
    for error in report["errors"]:
        fail(error)
    if as_json:
        show_json(report)
    if report["errors"]:
        raise typer.Exit(1)


def study(
    recipe: RecipeOption = DEFAULT_RECIPE,
    topics: TopicsOption = None,
    seeds: Annotated[
        list[int] | None,
        typer.Option(
            "--seeds", metavar="N...", min=0, max=(1 << 63) - 1, help="Seeds, in place of the recipe's study.seeds."
        ),
    ] = None,
    more_seeds: Annotated[list[int] | None, typer.Argument(hidden=True)] = None,
    as_json: JsonAtEndOption = False,
) -> None:
    """Measure what each part of the loop contributes: the recipe against others made from it."""
    if more_seeds and not seeds:
        raise typer.BadParameter(f"got unexpected arguments {more_seeds}: name seeds after --seeds")
    loaded, home = load(recipe, topics), prepared_home()
    from speed_assets.orchestration.study import StudyError
    from speed_assets.orchestration.study import study as run_study
    from speed_assets.orchestration.study_arms import arms
    from speed_assets.orchestration.study_report import table

    arms(loaded, loaded.seed)  # a recipe that cannot be studied is refused before anything is checked
    try:
        with progress_display() as display:
            display.say(f"recipe {loaded.name}, home {home}")
            found = checking.begin(loaded, home, display.say)
            chosen = [*(seeds or ()), *(more_seeds or ())]
            summary = run_study(loaded, home, seeds=chosen, progress=display, say=display.say, findings=found)
    except StudyError as error:
        fail(str(error))
        raise typer.Exit(1) from None
    out(table(summary))
    out(f"table, plot and JSON: {summary['folder']}")
    if as_json:
        show_json(summary)


def ui(
    recipe: RecipeOption = DEFAULT_RECIPE,
    topics: TopicsOption = None,
    port: Annotated[
        int, typer.Option("--port", metavar="N", min=1, max=65_535, help="Port of the web server, on loopback.")
    ] = 3000,
) -> None:
    """Open the Dagster UI on this home."""
    several = [name.strip() for name in os.environ.get("SPEED_RECIPES", "").split(",") if name.strip()]
    names, home = [load(name, topics).name for name in several or [recipe]], home_to_run_in()
    from speed_assets.orchestration.home_environment import variables_of
    from speed_assets.orchestration.staleness import Instance
    from speed_assets.orchestration.ui_server import serve

    Instance.of(home)  # creates the home, its Dagster instance, and the limit of the pool `gpu`
    os.environ |= variables_of(home)  # this process is the UI from here on
    # The server has another working folder than this process.
    os.environ["SPEED_RECIPE"] = _from_anywhere(recipe)
    if several:
        os.environ["SPEED_RECIPES"] = ",".join(map(_from_anywhere, several))
    if topics:
        os.environ["SPEED_TOPICS"] = str(topics.resolve())
    note(f"recipe {', '.join(names)}, home {home}: starting the UI")
    status = serve(port, note)
    if status:
        raise typer.Exit(status)


def _from_anywhere(recipe: str) -> str:
    """The name of a shipped recipe as it is, a file with its whole path."""
    return str(Path(recipe).resolve()) if Path(recipe).is_file() else recipe
