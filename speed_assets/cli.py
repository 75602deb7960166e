"""The `speed` command: thin over `runs.py`, `study.py` and the ledger's `accounts.py`.

Belongs here: arguments, printing, exit status. Exit status 0: done; 1: a run failed or a release was
refused; 2: the input was wrong.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import signal
import sys
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from resources.ledger import accounts
from resources.ledger.ledger import Ledger
from resources.releases import releases
from resources.store import storage_errors
from resources.store.home import prepare_home, speed_home
from resources.store.shared_store import store_of
from resources.store.store import MANIFEST_FILE, Artifact, StoreError, integrity_problems
from speed_assets.domain.task_types import TASK_TYPE_NAMES
from speed_assets.recipe import DEFAULT_RECIPE, Recipe, RecipeError, load_recipe

_ROWS_SHOWN = 20
_RAW_SHOWN = 500  # characters of a row's text on a terminal


def main(arguments: list[str] | None = None) -> int:
    args = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with storage_errors.explain_storage_errors(speed_home()):
            status: int = args.command(args)
        return status
    except (RecipeError, StoreError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: what is finished is kept, the next run goes on from here", file=sys.stderr)
        return 130


def _interrupt(_signal: int, _frame: Any) -> None:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="speed", description="SPEED as a Dagster asset graph.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, function: Any, description: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=description, description=description)
        sub.set_defaults(command=function)
        sub.add_argument("--recipe", default=os.environ.get("SPEED_RECIPE", DEFAULT_RECIPE), help="file or bare name")
        sub.add_argument("--topics", default=os.environ.get("SPEED_TOPICS"), help="topic file instead of the recipe's")
        return sub

    sub = command("run", _run, "Materialize what is stale and end with a table.")
    sub.add_argument(
        "--select",
        help="Dagster asset selection, for instance `*embedding_model` (with all that it is made from) or `senior_model*` (with all that is made from it)",
    )
    sub.add_argument("--json", action="store_true", help="end standard output with one JSON object")
    sub = command("plan", _plan, "Tell what a run would do and cost, and send nothing.")
    sub.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    sub = command(
        "rehearse",
        _rehearse,
        "Run the whole recipe on a few rows a stage, in a home of its own, and tell what the full one will take.",
    )
    sub.add_argument("--rows", type=_count, default=8, metavar="N", help="rows of each task type a stage (default 8)")
    sub.add_argument(
        "--skip-evaluation", action="store_true", help="score small sets of this project instead of the recipe's own"
    )
    sub.add_argument("--json", action="store_true", help="end standard output with one JSON object")
    sub = command("study", _study, "Tell what each part of the loop is worth: the recipe against others made from it.")
    sub.add_argument("--seeds", type=int, nargs="+", default=(), help="instead of the recipe's study.seeds")
    sub.add_argument("--json", action="store_true", help="end standard output with one JSON object")
    sub = command(
        "doctor", _doctor, "Tell what is missing before a run, and what mends it; asks the teacher one token."
    )
    sub.add_argument("--free", action="store_true", help="ask nobody outside this machine")
    sub.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    sub = command("show", _show, "Show the state of every asset, or all that is known of one.")
    sub.add_argument("asset", nargs="?")
    sub.add_argument("--json", action="store_true")
    sub = command("quarantine", _quarantine, "Count the rows that were set aside; with a choice, show those rows.")
    sub.add_argument("--stage", help="rows that this asset set aside")
    sub.add_argument("--reason", help="rows that were set aside for this reason")
    sub.add_argument("--task-type", choices=TASK_TYPE_NAMES, help="rows of this task type")
    sub.add_argument("--limit", type=_count, metavar="N", help=f"show at most N rows (default {_ROWS_SHOWN})")
    sub.add_argument(
        "--json", action="store_true", help="counts as one JSON object, or a row a line with its whole text"
    )
    sub = command("data-docs", _data_docs, "Write Great Expectations' Data Docs of every table that is made.")
    sub.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new or empty folder")
    sub = commands.add_parser("cost", help=(about := "Show what was spent, by asset, partition, model and day."))
    sub.description = about
    sub.set_defaults(command=_cost)
    sub.add_argument("--json", action="store_true")
    _ledger_parser(commands)
    about = "List the releases of this home, newest first."
    sub = commands.add_parser("releases", help=about, description=about)
    sub.set_defaults(command=_releases)
    sub.add_argument("--json", action="store_true")
    about = "Show what sets two releases apart: recipe, inputs, rows, scores with intervals, figures."
    sub = commands.add_parser("diff", help=about, description=about)
    sub.set_defaults(command=_diff)
    for name in ("old", "new"):
        sub.add_argument(name, help="folder of a release, or how its fingerprint begins")
    sub.add_argument("--json", action="store_true")
    about = "Make an earlier release current again, once every byte of it has been looked at."
    sub = commands.add_parser("rollback", help=about, description=about)
    sub.set_defaults(command=_rollback)
    sub.add_argument("release", nargs="?", help="how its fingerprint begins; the one before the current if left out")
    sub.add_argument("--recipe", default=os.environ.get("SPEED_RECIPE", DEFAULT_RECIPE), help="file or bare name")
    about = "Say what of a release would be sent to a hub, and send it with --yes."
    sub = commands.add_parser("push", help=about, description=about)
    sub.set_defaults(command=_push)
    sub.add_argument("release", help="folder of a release, or how its fingerprint begins")
    sub.add_argument("--to", required=True, metavar="OWNER/NAME", help="repository of the model and of the data set")
    sub.add_argument("--yes", action="store_true", help="send it")
    about = "Tell whether a release is as it was written, wherever it lies now; every file that is not is named."
    sub = commands.add_parser("verify", help=about, description=about)
    sub.set_defaults(command=_verify)
    sub.add_argument("folder", type=Path)
    sub = command("ui", _ui, "Open the Dagster UI on this home.")
    sub.add_argument("--port", type=int, default=3000)
    return parser


def _ledger_parser(commands: Any) -> None:
    about = "Show what the ledger of teacher calls holds; show, export or prune its answers."
    parser = commands.add_parser("ledger", help=about, description=about)
    parser.set_defaults(command=_ledger)
    parser.add_argument("--json", action="store_true")
    inside = parser.add_subparsers(metavar="COMMAND")
    sub = inside.add_parser("show", help="one call, with request and answer, as JSON")
    sub.set_defaults(command=_ledger_show)
    sub.add_argument("key", help="the key, or how it begins")
    sub = inside.add_parser("export", help="every call, one JSON object a line")
    sub.set_defaults(command=_ledger_export)
    sub.add_argument("file", type=Path)
    sub = inside.add_parser("prune", help="take answers out; says what it would remove, and does it with --yes")
    sub.set_defaults(command=_ledger_prune)
    sub.add_argument("--stage")
    sub.add_argument("--model")
    sub.add_argument("--before", metavar="DATE", help="answered before this day (UTC), for instance 2024-10-18")
    sub.add_argument("--yes", action="store_true")


def _recipe(args: argparse.Namespace) -> Recipe:
    return load_recipe(args.recipe, args.topics)


def _run(args: argparse.Namespace) -> int:
    recipe = _recipe(args)
    home = speed_home()
    prepare_home(home)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

    from resources.progress import ProgressLines
    from resources.store.artifacts import Artifacts
    from speed_assets.orchestration import runs
    from speed_assets.orchestration.doctor import begin

    lines = ProgressLines()
    lines.print_line(f"recipe {recipe.name}, home {home}")
    begin(recipe, home, lines.print_line, everything=args.select is None)
    report = runs.run(recipe, home, select=args.select, progress=lines, say=lines.print_line)
    artifacts = Artifacts(recipe, store_of(home))
    summary = runs.summary(report, artifacts)
    if not report.made and not report.errors:
        lines.print_line("nothing was stale: every artifact is reused")
    for line in _table(summary, report.made, report.reused):
        print(line)
    for error in report.errors:
        print(f"error: {error}", file=sys.stderr)
    if args.json:
        print(json.dumps(summary), flush=True)
    return 1 if report.errors else 0


def _table(summary: dict[str, Any], made: dict[str, float], reused: dict[str, float]) -> list[str]:
    lines = ["", f"{summary['recipe']}: {len(made)} made, {len(reused)} reused in {summary['wall_s']} s"]
    checks = summary["checks"]
    lines.append(
        f"teacher calls {summary['teacher_calls']} (reused {summary['reused_calls']}), "
        f"checks {checks['passed']} passed, {checks['failed']} failed, {checks['warned']} warned"
    )
    if summary["truth"]:
        parts = list(next(iter(summary["truth"].values())))
        lines += ["", _row(["share of the rows asked for", *parts])]
        lines += [_row([n, *(f"{t[p]:.3f}" for p in parts)]) for n, t in summary["truth"].items()]
    if summary["scores"]:
        tasks = list(next(iter(summary["scores"].values())))
        lines += ["", _row(["score", *tasks, "mean"])]
        for model, scores in summary["scores"].items():
            mean = sum(scores.values()) / len(scores)
            lines.append(_row([model, *(f"{scores[t]:.3f}" for t in tasks), f"{mean:.3f}"]))
    lines += ["", f"release: {summary['release'] or 'none'}"]
    return lines


def _row(cells: list[str]) -> str:
    return f"{cells[0]:<28}" + "".join(f"{cell[:18]:>20}" for cell in cells[1:])


def _doctor(args: argparse.Namespace) -> int:
    from speed_assets.orchestration import doctor

    found = doctor.examine(args.recipe, args.topics, speed_home(), network=not args.free)
    for line in [json.dumps(doctor.as_json(found))] if args.json else doctor.as_text(found):
        print(line)
    return 1 if any(finding.status == "error" for finding in found) else 0


def _plan(args: argparse.Namespace) -> int:
    recipe = _recipe(args)
    home = speed_home()
    prepare_home(home)

    from speed_assets.orchestration import doctor
    from speed_assets.orchestration.plan import plan
    from speed_assets.orchestration.plan_text import as_text

    planned = plan(recipe, home)
    planned = replace(planned, warnings=[*planned.warnings, *doctor.missing(recipe, home)])
    if args.json:
        print(json.dumps(planned.as_json()))
        return 0
    for line in as_text(planned):
        print(_safe(line))
    return 0


def _rehearse(args: argparse.Namespace) -> int:
    recipe = _recipe(args)
    home = speed_home()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

    from resources.progress import ProgressLines
    from speed_assets.orchestration import rehearsal_report, rehearse
    from speed_assets.orchestration.doctor import begin

    lines = ProgressLines()
    lines.print_line(f"rehearsal of recipe {recipe.name}, home {rehearse.home_of(home, recipe)}")
    small = rehearse.rehearsal_of(recipe, args.rows, skip_evaluation=args.skip_evaluation)
    begin(small, rehearse.home_of(home, recipe), lines.print_line)
    done = rehearse.rehearse(
        recipe, home, rows=args.rows, skip_evaluation=args.skip_evaluation, progress=lines, say=lines.print_line
    )
    told = rehearsal_report.as_json(recipe, done, args.skip_evaluation)
    for line in rehearsal_report.as_text(told):
        print(_safe(line))
    for error in told["errors"]:
        print(f"error: {error}", file=sys.stderr)
    if args.json:
        print(json.dumps(told), flush=True)
    return 1 if told["errors"] else 0


def _study(args: argparse.Namespace) -> int:
    recipe = _recipe(args)
    home = speed_home()
    prepare_home(home)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

    from resources.progress import ProgressLines
    from speed_assets.orchestration.doctor import begin
    from speed_assets.orchestration.study import StudyError, arms, study, table

    lines = ProgressLines()
    lines.print_line(f"recipe {recipe.name}, home {home}")
    begin(next(iter(arms(recipe, (args.seeds or recipe.study.seeds)[0]).values())), home, lines.print_line)
    try:
        summary = study(recipe, home, seeds=args.seeds, progress=lines, say=lines.print_line)
    except StudyError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(table(summary))
    print(f"table, plot and JSON: {summary['folder']}")
    if args.json:
        print(json.dumps(summary), flush=True)
    return 0


def _or_dash(value: float | None) -> str:
    return "-" if value is None else f"{value:,}"


def _show(args: argparse.Namespace) -> int:
    recipe = _recipe(args)
    home = speed_home()
    prepare_home(home)

    from resources.store.artifacts import Artifacts, artifact_label, partitions_of
    from speed_assets.orchestration.staleness import Instance, stale_reason

    artifacts = Artifacts(recipe, store_of(home))
    recorded = Instance.of(home).recorded([(stage.name, part) for stage, part in artifacts.in_build_order()])
    if args.asset and args.asset not in artifacts.graph:
        raise RecipeError(f"no asset {args.asset} in recipe {recipe.name}; it has {', '.join(artifacts.graph)}")
    shown: dict[str, Any] = {}
    for stage in artifacts.graph.values():
        for partition in partitions_of(stage):
            if args.asset in (None, stage.name):
                artifact = artifacts.peek(stage.name, partition)
                shown[artifact_label(stage.name, partition)] = {
                    "state": stale_reason(artifacts, recorded, artifact) or "fresh",
                    "rows": artifact.metadata.get("rows") if artifact else None,
                    "seconds": artifact.metadata.get("seconds") if artifact else None,
                    "path": str(artifact.path) if isinstance(artifact, Artifact) else None,
                    **({"metadata": artifact.metadata, "lineage": artifact.lineage} if args.asset and artifact else {}),
                }
    if args.json or args.asset:
        print(json.dumps(shown, indent=None if args.json else 1))
    else:
        for name, entry in shown.items():
            rows = "" if entry["rows"] is None else f"{entry['rows']:,} rows"
            seconds = "" if entry["seconds"] is None else f"{entry['seconds']:.1f} s"
            print(f"{name:<34}{rows:>14}{seconds:>10}  {entry['state']}")
    return 0


def _count(text: str) -> int:
    """A number of rows given as an argument."""
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is no number of rows: give 0 or more")
    return int(text)


def _quarantine(args: argparse.Namespace) -> int:
    """Reads the tables of the stages, not the asset `quarantine`: where a gate stopped the run it is not made yet. Outputs
    of generators that are not whole are shown, too, though they stay in their tables."""
    recipe = _recipe(args)

    from resources.store.artifacts import Artifacts, artifact_label
    from speed_assets.assets.quarantine import counted, with_broken

    artifacts = Artifacts(recipe, store_of(speed_home()))
    tables = [
        (stage.name, part) for stage, part in artifacts.in_build_order() if stage.kind == "table" and not stage.gathers
    ]
    found = [artifacts.fetch(*table) for table in tables]
    missing = [artifact_label(*table) for table, artifact in zip(tables, found, strict=True) if artifact is None]
    rows = with_broken(artifact for artifact in found if artifact is not None)
    chosen = {name: getattr(args, name) for name in ("stage", "reason", "task_type") if getattr(args, name) is not None}
    for name, value in chosen.items():
        there = rows[name].drop_nulls().unique().sort().to_list()
        if value not in there:
            raise RecipeError(f"no row has {name} {value}; there are {', '.join(there) or 'no rows at all'}")
        rows = rows.filter(pl.col(name) == value)
    if missing:
        print(f"not made yet under this recipe: {', '.join(missing)}", file=sys.stderr)
    if chosen or args.limit is not None:
        shown = rows.head(_ROWS_SHOWN if args.limit is None else args.limit)
        _print_quarantined(shown.rows(named=True), rows.height, args.json)
        return 0
    counts = counted(rows, "stage", "reason", "task_type")
    if args.json:
        print(json.dumps({"rows": rows.height, "counts": counts.to_dicts(), "missing": missing}))
        return 0
    for entry in counted(rows, "stage", "reason").sort("stage", "rows", descending=[False, True]).iter_rows(named=True):
        of = counts.filter(stage=entry["stage"], reason=entry["reason"])
        types = ", ".join(f"{task_type or '-'} {n:,}" for task_type, n in of.select("task_type", "rows").iter_rows())
        print(f"{entry['stage']:<18}{_safe(entry['reason']):<34}{entry['rows']:>10,}  {types}")
    print(f"\n{rows.height:,} rows set aside")
    return 0


def _print_quarantined(rows: list[dict[str, Any]], of: int, as_json: bool) -> None:
    if as_json:
        for row in rows:
            print(json.dumps(row).replace("\x7f", "\\u007f"))  # the one control character that JSON leaves as it is
        return
    for row in rows:
        detail = f": {_safe(row['detail'])}" if row["detail"] else ""
        print(f"{_safe(row['row_id'])}  {row['stage']} {row['task_type'] or '-'}  {_safe(row['reason'])}{detail}")
        text = row["raw"] or ""
        print(f"    {_safe(text[:_RAW_SHOWN])}{'…' if len(text) > _RAW_SHOWN else ''}")
    print(f"\n{len(rows):,} of {of:,} rows")


def _data_docs(args: argparse.Namespace) -> int:
    recipe = _recipe(args)

    from checks.data_docs import write_data_docs
    from resources.store.artifacts import Artifacts

    page = write_data_docs(
        Artifacts(recipe, store_of(speed_home())), args.out, lambda line: print(line, file=sys.stderr)
    )
    print(page)
    return 0


def _releases(args: argparse.Namespace) -> int:
    """What each release says of itself; `speed verify` looks at its bytes."""
    listed = []
    store = store_of(speed_home())
    for release in releases.list_releases(store):
        scores = release.manifest["metadata"].get("scores") or {}
        now = releases.current_release(store, release.recipe) if release.recipe else None
        listed.append(
            {
                "path": str(release.path),
                "recipe": release.recipe,
                "current": now is not None and now.fingerprint == release.fingerprint,
                "created": datetime.fromtimestamp(release.created, UTC).isoformat(timespec="seconds"),
                "digest": release.manifest["digest"],
                "rows": release.manifest["metadata"].get("rows_released"),
                "mean_score": round(sum(scores.values()) / len(scores), 4) if scores else None,
                "tasks": len(scores),
            }
        )
    if args.json:
        print(json.dumps(listed))
        return 0
    for entry in listed:
        rows = f"{_or_dash(entry['rows'])} rows"
        print(
            f"{entry['created']}  {rows:>14}  {entry['mean_score']} on {entry['tasks']} tasks  {_safe(entry['path'])}"
            + ("  (current)" if entry["current"] else "")
        )
    if not listed:
        print(f"no release in {speed_home()}")
    return 0


def _diff(args: argparse.Namespace) -> int:
    from speed_assets.orchestration.diff import diff

    store = store_of(speed_home())
    found = diff(releases.find_release(store, args.old), releases.find_release(store, args.new))
    if args.json:
        print(json.dumps(found))
        return 0
    for part in ("recipe", "made_of", "rows", "figures"):
        print(f"{part.replace('_', ' ')}: {len(found[part]) or 'nothing'} changed")
        for name, (old, new) in found[part].items():
            print(f"  {_safe(name):<48} {_short(old):>26} -> {_short(new)}")
    scores = found["scores"]
    print(
        "scores:"
        if scores["lines"]
        else f"scores cannot be compared: {'; '.join(map(_safe, scores['not_comparable']))}"
    )
    for line in scores["lines"]:
        print(
            f"  {_safe(line['task']):<34} {line['old']:.4f} -> {line['new']:.4f}  {line['difference']:+.4f} "
            f"[{line['low']:+.4f}, {line['high']:+.4f}]  {line['word']}"
        )
    return 0


def _short(value: Any) -> str:
    text = "-" if value is None else value[:12] if isinstance(value, str) and len(value) == 64 else str(value)
    return _safe(text if len(text) <= 60 else f"{text[:59]}…")


def _rollback(args: argparse.Namespace) -> int:
    recipe = "" if args.release else load_recipe(args.recipe).name
    release = releases.roll_back(store_of(speed_home()), recipe, args.release)
    print(f"release {release.short} of recipe {release.recipe} is current: every byte is as written")
    return 0


def _push(args: argparse.Namespace) -> int:
    from resources.releases import hub

    release = releases.find_release(store_of(speed_home()), args.release)
    against = hub.push_objections(release, args.to)
    total = 0
    for upload in hub.planned_uploads(release):
        for name, size in upload.sizes():
            total += size
            print(f"{upload.kind:<8}{size:>14,}  {_safe(name)}" + ("  (card)" if name == hub.CARD else ""))
    print(f"{total:,} bytes of release {release.short} to {_safe(args.to)}, as a model and as a data set")
    for reason in against:
        print(f"error: {_safe(reason)}", file=sys.stderr)
    if against:
        return 1
    if not args.yes:
        print("nothing was sent: say --yes to send it")
        return 0
    for place in hub.push_release(release, args.to):
        print(f"sent: {_safe(place)}")
    return 0


def _verify(args: argparse.Namespace) -> int:
    folder: Path = args.folder
    if not (folder / MANIFEST_FILE).is_file():
        raise StoreError(
            f"{folder} is no release: it has no {MANIFEST_FILE}; name the folder that `speed releases` lists"
        )
    found = list(integrity_problems(folder))
    for problem in found:
        print(f"damaged: {_safe(problem)}", file=sys.stderr)
    if found:
        return 1
    manifest = json.loads((folder / MANIFEST_FILE).read_text(encoding="utf-8"))
    size = sum(entry["bytes"] for entry in manifest["files"].values())
    print(
        f"{manifest['asset']} {manifest['fingerprint'][:24]}: {len(manifest['files'])} files, {size:,} bytes, "
        f"all as written; content digest {manifest['digest']}"
    )
    return 0


def _open_ledger() -> Ledger:
    home = speed_home()
    prepare_home(home)
    return Ledger.at(home)


def _cost(args: argparse.Namespace) -> int:
    costs = accounts.cost_report(_open_ledger())
    if args.json:
        print(json.dumps(costs))
        return 0
    print(_row(["", "calls", "prompt tokens", "output tokens", "money", "calls without price"]))
    for dimension in accounts.COST_DIMENSIONS:
        for entry in costs["by"][dimension]:
            print(_row([f"{dimension} {_safe(entry[dimension])}", *_spent_cells(entry)]))
    print(_row(["all", *_spent_cells(costs)]))
    if versions := costs["prices"]:
        print(f"prices: {', '.join(map(_safe, versions))}")
    if costs["lost_calls"] or costs["under_way"]:
        print(
            f"beside these: {costs['under_way']} calls under way, and {costs['lost_calls']} that were under way when "
            "their process died; the provider may have billed those"
        )
    return 0


def _spent_cells(entry: dict[str, Any]) -> list[str]:
    numbers = ["unknown" if entry[n] is None else f"{entry[n]:,}" for n in ("calls", "prompt_tokens", "output_tokens")]
    money = "unknown" if entry["money"] is None else f"{entry['money']:.6f} {_safe(entry['currency'] or '')}"
    return [*numbers, money, f"{entry['unpriced_calls']:,}"]


def _ledger(args: argparse.Namespace) -> int:
    ledger = _open_ledger()
    sizes = accounts.ledger_sizes(ledger)
    if args.json:
        print(json.dumps({"bytes": ledger.database.size(), "calls": sum(s["calls"] for s in sizes), "by": sizes}))
    else:
        _print_sizes(sizes)
        print(f"\n{sum(s['calls'] for s in sizes):,} calls, {ledger.database.size() / 1e6:,.1f} MB on disk")
    return 0


def _print_sizes(sizes: list[dict[str, Any]]) -> None:
    print(_row(["stage", "model", "calls", "requests, bytes", "answers, bytes", "from", "to"]))
    for s in sizes:
        numbers = [f"{s[name]:,}" for name in ("calls", "request_bytes", "answer_bytes")]
        print(_row([_safe(s["stage"]), _safe(s["model"]), *numbers, s["first"][:16], s["last"][:16]]))


def _ledger_show(args: argparse.Namespace) -> int:
    found = list(itertools.islice(accounts.read_calls(_open_ledger(), args.key), 11))
    if len(found) != 1:
        some = ", ".join(call["key"][:16] for call in found[:10])
        raise StoreError(
            f"no call has a key that begins with {args.key!r}"
            if not found
            else f"several keys begin with {args.key!r}: {some}{', ...' if len(found) > 10 else ''}"
        )
    print(json.dumps(found[0], indent=1))  # escapes whatever a model may have put there for a terminal
    return 0


def _ledger_export(args: argparse.Namespace) -> int:
    print(f"{accounts.export_calls(_open_ledger(), args.file):,} calls in {args.file}", file=sys.stderr)
    return 0


def _ledger_prune(args: argparse.Namespace) -> int:
    gone = accounts.prune_answers(
        _open_ledger(), stage=args.stage, model=args.model, before=args.before, remove=args.yes
    )
    _print_sizes(gone)
    number = sum(s["calls"] for s in gone)
    print(
        f"\n{number:,} answers removed; what they cost stays in `speed cost`"
        if args.yes
        else f"\n{number:,} answers would be removed, and paid again when they are needed: say --yes to do it"
    )
    return 0


def _safe(text: Any) -> str:
    """Text that a model or server wrote, for a terminal: printable or escaped."""
    return "-" if text is None else "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(text))


def _ui(args: argparse.Namespace) -> int:
    recipe = _recipe(args)
    home = speed_home()

    from speed_assets.orchestration.staleness import Instance
    from speed_assets.orchestration.ui_server import serve

    Instance.of(home)  # sets both homes in the environment, and the limit of the gpu pool
    os.environ["SPEED_RECIPE"] = str(Path(args.recipe).resolve()) if Path(args.recipe).is_file() else args.recipe
    if args.topics:
        os.environ["SPEED_TOPICS"] = str(Path(args.topics).resolve())
    say = partial(print, file=sys.stderr, flush=True)
    say(f"recipe {recipe.name}, home {home}: starting the UI")
    return serve(args.port, say)


if __name__ == "__main__":
    sys.exit(main())
