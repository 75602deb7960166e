"""`speed ledger`: the ledger of teacher calls.

Belongs here: its arguments and what it prints. Not here: the ledger (`resources/ledger`).
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from speed_assets.cli.options import JsonOption, YesOption
from speed_assets.cli.output import note, out, printable, show_json, show_table

if TYPE_CHECKING:
    from resources.ledger.ledger import Ledger


def register(app: typer.Typer) -> None:
    """Add `ledger` and its commands to the command line."""
    group = typer.Typer(epilog="Example: speed ledger prune --stage seed_data --before 2024-10-18")
    group.callback(invoke_without_command=True)(sizes)
    for name, function, example in (
        ("show", show_call, "speed ledger show 3f9a"),
        ("export", export, "speed ledger export calls.jsonl"),
        ("prune", prune, "speed ledger prune --model gpt-4.1 --yes"),
    ):
        group.command(name, epilog=f"Example: {example}")(function)
    app.add_typer(group, name="ledger", rich_help_panel="Reading")


def open_ledger() -> Ledger:
    """The ledger of the home. Raises StoreError."""
    from resources.ledger.ledger import Ledger
    from resources.store.home import prepare_home, speed_home

    home = speed_home()
    prepare_home(home)
    return Ledger.at(home)


def sizes(context: typer.Context, as_json: JsonOption = False) -> None:
    """Print the number and size of the calls in the ledger; print, export or remove calls."""
    if context.invoked_subcommand is not None:
        return
    from resources.ledger import accounts

    ledger = open_ledger()
    by = accounts.ledger_sizes(ledger)
    calls, size = sum(entry["calls"] for entry in by), ledger.database.size()
    if as_json:
        show_json({"bytes": size, "calls": calls, "by": by})
        return
    _show_sizes(by)
    out(f"\n{calls:,} calls, {size / 1e6:,.1f} MB on disk")


def _show_sizes(by: list[dict[str, Any]]) -> None:
    header = ["stage", "model", "calls", "requests, bytes", "answers, bytes", "from", "to"]
    rows = []
    for entry in by:
        numbers = [f"{entry[name]:,}" for name in ("calls", "request_bytes", "answer_bytes")]
        names = [printable(entry["stage"]), printable(entry["model"])]
        rows.append([*names, *numbers, entry["first"][:16], entry["last"][:16]])
    show_table(header, rows, text=(0, 1))


def show_call(
    key: Annotated[str, typer.Argument(help="Key of the call, or how it begins.")], as_json: JsonOption = False
) -> None:
    """Print one call, with request and answer, as JSON."""
    from resources.ledger import accounts
    from resources.store.store import StoreError

    found = list(itertools.islice(accounts.read_calls(open_ledger(), key), 11))
    if not found:
        raise StoreError(f"no call has a key that begins with {key!r}")
    if len(found) > 1:
        some = ", ".join(call["key"][:16] for call in found[:10])
        raise StoreError(f"several keys begin with {key!r}: {some}{', ...' if len(found) > 10 else ''}")
    show_json(found[0], indent=None if as_json else 1)


def export(
    file: Annotated[Path, typer.Argument(help="File to write, one JSON object a line.")], as_json: JsonOption = False
) -> None:
    """Write every call to a file, one JSON object a line."""
    from resources.ledger import accounts

    calls = accounts.export_calls(open_ledger(), file)
    if as_json:
        show_json({"calls": calls, "file": str(file)})
    else:
        note(f"{calls:,} calls in {file}")


def prune(
    stage: Annotated[str | None, typer.Option("--stage", metavar="ASSET", help="Calls of this asset.")] = None,
    model: Annotated[str | None, typer.Option("--model", metavar="NAME", help="Calls of this model.")] = None,
    before: Annotated[
        str | None,
        typer.Option("--before", metavar="DATE", help="Calls answered before this day (UTC), such as 2024-10-18."),
    ] = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Remove answers from the ledger; without --yes, print what would be removed."""
    from resources.ledger import accounts

    by = accounts.prune_answers(open_ledger(), stage=stage, model=model, before=before, remove=yes)
    calls = sum(entry["calls"] for entry in by)
    if as_json:
        show_json({"removed": yes, "calls": calls, "by": by})
        return
    _show_sizes(by)
    out(
        f"\n{calls:,} answers removed; what they cost stays in `speed cost`"
        if yes
        else f"\n{calls:,} answers would be removed, and paid again when they are needed: say --yes to do it"
    )
