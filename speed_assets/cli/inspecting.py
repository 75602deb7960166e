"""Commands that read a home and change nothing in it: `show`, `report`, `quarantine`, `forget`, `cost`, `data-docs`.

Belongs here: their arguments and what they print. Not here: reading (`speed_assets/orchestration`, `resources`).
"""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from speed_assets.cli.live import busy_with
from speed_assets.cli.options import (
    DEFAULT_RECIPE,
    JsonOption,
    RecipeOption,
    TopicsOption,
    load,
    prepared_home,
    rows_count,
)
from speed_assets.cli.output import note, number, out, printable, show, show_json, show_table
from speed_assets.domain.task_types import TASK_TYPE_NAMES

PANEL = "Reading"
_ROWS = 20
_CHARACTERS = 500
"""Of a row's text on a terminal."""
TaskType = Enum("TaskType", {name: name for name in TASK_TYPE_NAMES})  # type: ignore[misc]


def register(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    for name, function, example in (
        ("show", show_assets, "speed show senior_data"),
        ("report", report, "speed report --open"),
        ("quarantine", quarantine, "speed quarantine --reason near_duplicate --limit 5"),
        ("forget", forget, "speed forget manuals/pump.md --recipe recipe.yaml"),
        ("cost", cost, "speed cost --json"),
        ("data-docs", data_docs, "speed data-docs --out docs"),
    ):
        app.command(name, rich_help_panel=PANEL, epilog=f"Example: {example}")(function)


def show_assets(
    asset: Annotated[str | None, typer.Argument(help="Asset to print in full, with metadata and lineage.")] = None,
    recipe: RecipeOption = DEFAULT_RECIPE,
    topics: TopicsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the state of every asset, or everything recorded about one."""
    loaded, home = load(recipe, topics), prepared_home()
    from speed_assets.orchestration.asset_states import asset_states

    with busy_with("looking assets up"):
        states = asset_states(loaded, home, asset)
    if as_json:
        show_json(states)
    elif asset:
        show_json(states, indent=1)
    else:
        rows = [
            [
                name,
                number(entry["rows"]),
                "-" if entry["seconds"] is None else f"{entry['seconds']:,.1f}",
                printable(entry["state"]),
            ]
            for name, entry in states.items()
        ]
        show_table(["asset", "rows", "seconds", "state"], rows, text=(0, 3))


def report(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[RELEASE|RUN]",
            help="Folder of a release, or how the fingerprint of a release or the id of a run begins; without it, the "
            "latest state of the home.",
        ),
    ] = None,
    recipe: RecipeOption = DEFAULT_RECIPE,
    topics: TopicsOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="The page (default: reports/RECIPE.html in the home).")
    ] = None,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write one HTML page about a run or release: graph, cost, scores, rows, quarantine, changes. It sends no request."""
    loaded, home = load(recipe, topics), prepared_home()
    from speed_assets.orchestration.report import write_report

    with busy_with("writing the page"):
        page = write_report(loaded, home, name, out)
    if as_json:
        show_json({"page": str(page), "bytes": page.stat().st_size})
    else:
        show([str(page)])
    if open_page:
        import webbrowser

        if not webbrowser.open(page.as_uri()):
            note("no browser could be started: open the file above")


def quarantine(
    recipe: RecipeOption = DEFAULT_RECIPE,
    topics: TopicsOption = None,
    stage: Annotated[
        str | None, typer.Option("--stage", metavar="ASSET", help="Rows that this asset rejected.")
    ] = None,
    reason: Annotated[
        str | None, typer.Option("--reason", metavar="REASON", help="Rows rejected for this reason.")
    ] = None,
    task_type: Annotated[TaskType | None, typer.Option("--task-type", help="Rows of this task type.")] = None,
    limit: Annotated[
        int | None,
        typer.Option("--limit", parser=rows_count, metavar="N", help=f"Print at most N rows (default: {_ROWS})."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print counts as one JSON object, or one row with its full text a line.")
    ] = False,
) -> None:
    """Count the quarantined rows; with a choice, print those rows."""
    loaded = load(recipe, topics)
    from resources.store.home import speed_home
    from speed_assets.orchestration.quarantined_rows import quarantined_rows

    conditions = {
        name: value
        for name, value in (("stage", stage), ("reason", reason), ("task_type", task_type and task_type.value))
        if value is not None
    }
    found = quarantined_rows(loaded, speed_home()).chosen(conditions)
    if found.missing:
        assets = dict.fromkeys(name.partition("/")[0] for name in found.missing)
        note(f"not made yet under this recipe: {', '.join(assets)}")
    if conditions or limit is not None:
        chosen = found.rows.head(_ROWS if limit is None else limit)
        _print_rows(chosen.rows(named=True), found.rows.height, as_json)
    elif as_json:
        show_json({"rows": found.rows.height, "counts": found.counts(), "missing": found.missing})
    else:
        rows = [
            [
                entry["stage"],
                printable(entry["reason"]),
                f"{entry['rows']:,}",
                ", ".join(f"{name} {n:,}" for name, n in entry["task_types"].items()),
            ]
            for entry in found.by_reason()
        ]
        show_table(["stage", "reason", "rows", "by task type"], rows, text=(0, 1, 3))
        out(f"\n{found.rows.height:,} rows quarantined")


def _print_rows(rows: list[dict[str, Any]], of: int, as_json: bool) -> None:
    if as_json:
        for row in rows:
            show_json(row)
        return
    for row in rows:
        detail = f": {printable(row['detail'])}" if row["detail"] else ""
        head = f"{printable(row['row_id'])}  {row['stage']} {row['task_type'] or '-'}"
        out(f"{head}  {printable(row['reason'])}{detail}")
        text = row["raw"] or ""
        out(f"    {printable(text[:_CHARACTERS])}{'…' if len(text) > _CHARACTERS else ''}")
    out(f"\n{len(rows):,} of {of:,} rows")


def forget(
    document: Annotated[str, typer.Argument(help="Id of the document: its path in the corpus, or the id of its row.")],
    recipe: RecipeOption = DEFAULT_RECIPE,
    topics: TopicsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Name every artifact and release that holds a document of the corpus or was made from it. Deletes nothing."""
    loaded, home = load(recipe, topics), prepared_home()
    from speed_assets.orchestration.forget import forget as traces_of

    found = traces_of(loaded, home, document)
    if as_json:
        show_json(found.as_json())
        return
    rows = [[one.name, number(one.rows), ", ".join(one.made_from), one.path] for one in found.held]
    show_table(["artifact", "rows", "made from", "folder"], rows, text=(0, 2, 3))
    if not found.left_out:
        out(f"To leave it out of what is made next: add {document} to corpus.forget of the recipe, then speed run.")
    out(
        "What was made before stays until its folder is deleted; the ledger keeps the teacher's answers (speed ledger prune)."
    )
    out("These may hold its text, too, and are not searched:")
    for place in found.elsewhere:
        out(f"  {printable(place)}")


def cost(as_json: JsonOption = False) -> None:
    """Print the calls, tokens and money spent, by asset, partition, model and day."""
    from resources.ledger import accounts
    from speed_assets.cli.ledger_commands import open_ledger

    costs = accounts.cost_report(open_ledger())
    if as_json:
        show_json(costs)
        return
    rows = [
        [f"{dimension} {printable(entry[dimension])}", *_spent(entry)]
        for dimension in accounts.COST_DIMENSIONS
        for entry in costs["by"][dimension]
    ]
    rows.append(["all", *_spent(costs)])
    header = ["", "calls", "prompt tokens", "output tokens", "money", "calls without price"]
    columns = len(header) if costs["unpriced_calls"] else len(header) - 1  # a column of zeros is left out
    show_table(header[:columns], [row[:columns] for row in rows])
    lines = [f"prices: {', '.join(map(printable, versions))}"] if (versions := costs["prices"]) else []
    if costs["lost_calls"] or costs["under_way"]:
        lines.append(
            f"not in these numbers: {costs['under_way']} calls in progress, and {costs['lost_calls']} that were in progress "
            "when their process died; the provider may have billed those"
        )
    show(lines)


def _spent(entry: dict[str, Any]) -> list[str]:
    numbers = ["unknown" if entry[n] is None else f"{entry[n]:,}" for n in ("calls", "prompt_tokens", "output_tokens")]
    money = "unknown" if entry["money"] is None else f"{entry['money']:.6f} {printable(entry['currency'] or '')}"
    return [*numbers, money.rstrip(), f"{entry['unpriced_calls']:,}"]


def data_docs(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="A new or empty folder.")],
    recipe: RecipeOption = DEFAULT_RECIPE,
    topics: TopicsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write Great Expectations' Data Docs of every table that is made: `index.html` in the folder, readable without a network."""
    loaded = load(recipe, topics)
    from checks.data_docs import write_data_docs
    from resources.store.artifacts import Artifacts
    from resources.store.home import speed_home
    from resources.store.shared_store import store_of

    artifacts = Artifacts(loaded, store_of(speed_home()))
    page = write_data_docs(artifacts, out, note)
    if as_json:
        show_json({"page": str(page)})
    else:
        show([str(page)])
