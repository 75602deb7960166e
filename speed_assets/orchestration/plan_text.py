"""A plan for a terminal of 80 columns.

Belongs here: how a plan is printed. Not here: the plan itself (`plan.py`).
"""

from __future__ import annotations

from textwrap import wrap
from typing import Any

from speed_assets.orchestration.plan import Plan, Step
from speed_assets.orchestration.plan_blocks import blocks_in_words

WIDTH = 80
_NAME = 32
"""Columns of the longest name, `preference_pairs/classification`: no name is cut."""


def as_text(planned: Plan) -> list[str]:
    """Lines of at most 80 columns: a table of every artifact, why each is made, sums, and warnings.

    `calls` are those of first attempts, `most` those with every further attempt that the recipe allows.
    """
    numbers = {why: number for number, why in enumerate(dict.fromkeys(_reasons(planned)), 1)}
    lines = [_row("", "", "calls", "most", "rows", "seconds", "why")]
    lines += [_step(step, numbers.get(step.why)) for step in planned.steps]
    if numbers:
        lines += ["", *(line for why, number in numbers.items() for line in _wrapped(f"why {number}: {why}"))]
    blocks = _wrapped(blocks_in_words(planned.blocks)) if planned.blocks else []
    return [
        *lines,
        "",
        *_sums(planned),
        *blocks,
        *(line for text in planned.warnings for line in _wrapped(f"warning: {text}")),
    ]


def in_words(step: Step, currency: str | None) -> str:
    """Why a step is launched and what it takes, for the page of its asset in the UI.

    >>> in_words(Step("seed_data", "sts", "make", "seed_data.rows.sts 8 -> 9", calls=9, calls_most=18, rows=9, seconds=2.4), None)
    'To make: seed_data.rows.sts 8 -> 9. 9 teacher calls (18 at most), 9 rows, about 2 s.'
    """
    gates = f" Failed upstream: {', '.join(step.failed_above)}; a run stops there." if step.failed_above else ""
    if step.action == "record":
        return f"To record, which costs nothing: {step.why}.{gates}"
    takes = []
    if step.calls:
        more = f" ({step.calls_most:,} at most)" if step.calls_most > step.calls else ""
        takes.append(f"{step.calls:,} teacher calls{more}")
        if step.money_most:
            takes.append(f"at most {step.money_most:,.2f} {currency or ''}".strip())
    if step.rows:
        takes.append(f"{step.rows:,} rows")
    takes.append("time unknown before its first run" if step.seconds is None else f"about {step.seconds:,.0f} s")
    takes[0] = takes[0][0].upper() + takes[0][1:]
    doing = "Given by the user, to be copied" if step.given else "To make"
    return f"{doing}: {step.why}. {', '.join(takes)}.{gates}"


def _reasons(planned: Plan) -> list[str]:
    return [step.why for step in planned.steps if step.action != "reuse"]


def _row(name: str, action: str, *cells: str) -> str:
    widths = (9, 9, 10, 8, 4)
    line = f"{name:<{_NAME}} {action:<6}" + "".join(f"{cell:>{w}}" for cell, w in zip(cells, widths, strict=True))
    return line.rstrip()


def _step(step: Step, why: int | None) -> str:
    if step.action != "make":
        action = "given" if step.given and step.action == "reuse" else step.action
        return _row(step.name, action, "", "", "", "", str(why or ""))
    calls = (f"{step.calls:,}" if step.calls else "", f"{step.calls_most:,}" if step.calls else "")
    seconds = "-" if step.seconds is None else f"{step.seconds:,.0f}"
    action = "given" if step.given else "make"
    return _row(step.name, action, *calls, "-" if step.rows is None else f"{step.rows:,}", seconds, str(why or ""))


def _sums(planned: Plan) -> list[str]:
    sums = planned.as_json()
    unit = f" {sums['currency']}" if sums["currency"] else ""
    calls = f"{sums['calls']:,} teacher calls"
    if sums["calls_most"] > sums["calls"]:
        calls += f", {sums['calls_most']:,} at most with every further attempt"
    if sums["known_calls"]:
        calls += f"; {sums['known_calls']:,} more are cached in the ledger"
    money = "money unknown: the recipe names no price"
    if sums["money_most"] is not None:
        low, likely, most = (f"{sums[name]:,.2f}" for name in ("money_least", "money", "money_most"))
        money = f"money at most {most}{unit}, {likely}{unit} is likely, {low}{unit} at least"
    if sums["batch_saves"]:
        saves = f"{sums['batch_saves']:,.2f}{unit}"
        in_batches = sums["mode"] == "batch"
        money += f"; batch files save {saves} of it" if in_batches else f"; calls.mode=batch would save {saves} of it"
    seconds = (
        "time unknown before the first run of each stage"
        if sums["seconds"] is None
        else f"{sums['seconds']:,.0f} seconds"
    )
    return [
        line
        for text in (
            f"{len(sums['make']):,} to make, {len(sums['record']):,} to record, {len(sums['reuse']):,} reused; {seconds}",
            calls,
            f"tokens in {_range(sums, 'prompt_tokens')}, out {_range(sums, 'output_tokens')}; {money}",
        )
        for line in _wrapped(text)
    ]


def _range(sums: dict[str, Any], name: str) -> str:
    """Likely tokens, and their bounds."""
    likely, least, most = sums[name], sums[f"{name}_least"], sums[f"{name}_most"]
    return f"{likely:,}" if least == most else f"{likely:,} ({least:,} to {most:,})"


def _wrapped(text: str) -> list[str]:
    """Lines of a sentence, later ones indented; a word longer than a line, such as a digest, is broken."""
    return wrap(text, WIDTH, subsequent_indent="  ")
