"""A plan for a terminal of 80 columns.

Belongs here: how a plan is printed. Not here: what it says (`plan.py`).
"""

from __future__ import annotations

from textwrap import wrap
from typing import Any

from speed_assets.orchestration.plan import Plan, Step

WIDTH = 80
_NAME = 32
"""Columns of the longest name, `preference_pairs/classification`: none is cut."""


def as_text(planned: Plan) -> list[str]:
    """Lines of at most 80 columns: a table of every artifact, why each is made, sums, and warnings.

    `calls` are those of first attempts, `most` those with every further attempt that the recipe allows.
    """
    whys = {why: number for number, why in enumerate(dict.fromkeys(_whys(planned)), 1)}
    lines = [_row("", "", "calls", "most", "rows", "seconds", "why")]
    lines += [_step(step, whys.get(step.why)) for step in planned.steps]
    if whys:
        lines += ["", *(line for why, number in whys.items() for line in _wrapped(f"why {number}: {why}"))]
    return [*lines, "", *_sums(planned), *(line for text in planned.warnings for line in _wrapped(f"warning: {text}"))]


def in_words(step: Step, currency: str | None) -> str:
    """Why a step is launched and what it takes, for the page of its asset.

    >>> in_words(Step("seed_data", "sts", "make", "seed_data.rows.sts 8 -> 9", calls=9, calls_most=18, rows=9, seconds=2.4), None)
    'To make: seed_data.rows.sts 8 -> 9. 9 teacher calls (18 at most), 9 rows, about 2 s.'
    """
    if step.action == "record":
        return f"To record, which costs nothing: {step.why}."
    takes = []
    if step.calls:
        more = f" ({step.calls_most:,} at most)" if step.calls_most > step.calls else ""
        takes.append(f"{step.calls:,} teacher calls{more}")
        if step.money_most:
            takes.append(f"at most {step.money_most:,.2f} {currency or ''}".strip())
    if step.rows:
        takes.append(f"{step.rows:,} rows")
    takes.append("time unknown until it was made once" if step.seconds is None else f"about {step.seconds:,.0f} s")
    return f"To make: {step.why}. {', '.join(takes)}."


def _whys(planned: Plan) -> list[str]:
    return [step.why for step in planned.steps if step.action != "reuse"]


def _row(name: str, action: str, *cells: str) -> str:
    widths = (9, 9, 10, 8, 4)
    line = f"{name:<{_NAME}} {action:<6}" + "".join(f"{cell:>{w}}" for cell, w in zip(cells, widths, strict=True))
    return line.rstrip()


def _step(step: Step, why: int | None) -> str:
    if step.action != "make":
        return _row(step.name, step.action, "", "", "", "", str(why or ""))
    calls = (f"{step.calls:,}" if step.calls else "", f"{step.calls_most:,}" if step.calls else "")
    seconds = "-" if step.seconds is None else f"{step.seconds:,.0f}"
    return _row(step.name, "make", *calls, "-" if step.rows is None else f"{step.rows:,}", seconds, str(why or ""))


def _sums(planned: Plan) -> list[str]:
    told = planned.as_json()
    unit = f" {told['currency']}" if told["currency"] else ""
    calls = f"{told['calls']:,} teacher calls"
    if told["calls_most"] > told["calls"]:
        calls += f", {told['calls_most']:,} at most with every further attempt"
    if told["known_calls"]:
        calls += f"; {told['known_calls']:,} more are in the ledger"
    money = "money unknown: the recipe names no price"
    if told["money_most"] is not None:
        low, likely, most = (f"{told[name]:,.2f}" for name in ("money_least", "money", "money_most"))
        money = f"money at most {most}{unit}, {likely}{unit} is likely, {low}{unit} at least"
    if told["batch_saves"]:
        saves = f"{told['batch_saves']:,.2f}{unit}"
        asked = told["mode"] == "batch"
        money += f"; batch files save {saves} of it" if asked else f"; calls.mode=batch would save {saves} of it"
    seconds = (
        "time unknown until each stage was made once" if told["seconds"] is None else f"{told['seconds']:,.0f} seconds"
    )
    return [
        line
        for text in (
            f"{len(told['make']):,} to make, {len(told['record']):,} to record, {len(told['reuse']):,} reused; {seconds}",
            calls,
            f"tokens in {_range(told, 'prompt_tokens')}, out {_range(told, 'output_tokens')}; {money}",
        )
        for line in _wrapped(text)
    ]


def _range(told: dict[str, Any], name: str) -> str:
    """Tokens as is likely, and between which bounds."""
    likely, least, most = told[name], told[f"{name}_least"], told[f"{name}_most"]
    return f"{likely:,}" if least == most else f"{likely:,} ({least:,} to {most:,})"


def _wrapped(text: str) -> list[str]:
    """Lines of a sentence, later ones set in; a word longer than a line is cut, such as a digest."""
    return wrap(text, WIDTH, subsequent_indent="  ")
