"""Commands about releases: `releases`, `diff`, `verify`, `rollback`, `push`.

Belongs here: their arguments and what they print. Not here: releases (`resources/releases`), comparing them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from speed_assets.cli.options import DEFAULT_RECIPE, JsonOption, RecipeOption, SetOption, TopicsOption, YesOption, load
from speed_assets.cli.output import fail, note, number, out, printable, show, show_json, show_table

PANEL = "Releases"
ReleaseArgument = Annotated[str, typer.Argument(help="Folder of a release, or how its fingerprint begins.")]


def register(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    for name, function, example in (
        ("releases", list_releases, "speed releases --json"),
        ("diff", diff, "speed diff 3f9a --now"),
        ("verify", verify, "speed verify .speed/releases/current/offline/"),
        ("rollback", rollback, "speed rollback 3f9a"),
        ("push", push, "speed push 3f9a --to owner/name --yes"),
    ):
        app.command(name, rich_help_panel=PANEL, epilog=f"Example: {example}")(function)


def list_releases(as_json: JsonOption = False) -> None:
    """List the releases of this home, newest first."""
    from resources.releases.releases import broken_releases
    from resources.store.home import speed_home
    from resources.store.shared_store import store_of
    from speed_assets.orchestration.release_list import release_list

    store = store_of(speed_home())
    listed = release_list(store)
    if as_json:
        show_json(listed)
        return
    for entry in listed:
        score = f"{entry['mean_score']} on {entry['tasks']} tasks"
        current = "  (current)" if entry["current"] else ""
        out(f"{entry['created'][:19]}  {printable(entry['recipe'])}  {number(entry['rows'])} rows  {score}{current}")
        out(f"  {printable(entry['path'])}")
    if broken := broken_releases(store):
        note(f"warning: not listed, since they are no releases or damaged: {', '.join(map(printable, broken))}")
    if not listed:
        out(f"no release in {speed_home()}")


def diff(
    old: ReleaseArgument,
    new: Annotated[
        str | None, typer.Argument(help="Folder of the other release, or how its fingerprint begins.")
    ] = None,
    now: Annotated[
        bool, typer.Option("--now", help="Compare with what would be released now, also where gates refuse it.")
    ] = False,
    recipe: RecipeOption = DEFAULT_RECIPE,
    topics: TopicsOption = None,
    changed: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print what differs between two releases: recipe, inputs, rows, scores with intervals, figures."""
    if (new is None) != now:
        raise typer.BadParameter("name two releases, or one release and --now")
    from checks.gates import refusals
    from resources.releases import releases
    from resources.store.artifacts import Artifacts
    from resources.store.home import speed_home
    from resources.store.shared_store import store_of
    from speed_assets.orchestration.diff import Now
    from speed_assets.orchestration.diff import diff as compare_releases

    store = store_of(speed_home())
    before = releases.find_release(store, old)
    if new is not None:
        found = compare_releases(before, releases.find_release(store, new))
    else:
        artifacts = Artifacts(load(recipe, topics, changed), store)
        found = compare_releases(before, Now(artifacts))
        found["refused"] = [refusal.sentence for refusal in refusals(artifacts)]
    if as_json:
        show_json(found)
        return
    for part in ("recipe", "made_of", "rows", "figures"):
        out(f"{part.replace('_', ' ')}: {len(found[part]) or 'nothing'} changed")
        for name, (before, after) in found[part].items():
            out(f"  {printable(name)}: {_short(before)} -> {_short(after)}")
    for sentence in found.get("refused", ()):
        out(f"refused: {printable(sentence)}")
    scores = found["scores"]
    if not scores["lines"]:
        out(f"scores cannot be compared: {'; '.join(map(printable, scores['not_comparable']))}")
        return
    out(f"scores (mean of the trainings of each release; intervals of {100 * (1 - scores['alpha']):g} %):")
    rows = [
        [
            printable(line["task"]),
            f"{line['old']:.4f}",
            f"{line['new']:.4f}",
            f"{line['difference']:+.4f}",
            f"[{line['low']:+.4f}, {line['high']:+.4f}]",
            line["word"],
        ]
        for line in scores["lines"]
    ]
    show_table(["task", "old", "new", "change", "interval", ""], rows, text=(0, 5))


def _short(value: Any) -> str:
    text = "-" if value is None else value[:12] if isinstance(value, str) and len(value) == 64 else str(value)
    return printable(text if len(text) <= 60 else f"{text[:59]}…")


def verify(
    release: Annotated[str, typer.Argument(help="Folder of a release, at any place, or how its fingerprint begins.")],
    as_json: JsonOption = False,
) -> None:
    """Check that every byte of a release is as it was written; name every file that is not."""
    from resources.releases.releases import find_release
    from resources.store.home import speed_home
    from resources.store.shared_store import store_of
    from speed_assets.orchestration.release_list import verified

    folder = Path(release)
    if not folder.exists() and re.fullmatch("[0-9a-f]+", release):
        folder = find_release(store_of(speed_home()), release).path
    found = verified(folder)
    if as_json:
        show_json(found)
    for problem in found["damaged"]:
        note(f"damaged: {printable(problem)}")
    if found["damaged"]:
        raise typer.Exit(1)
    if not as_json:
        out(
            f"{found['asset']} {found['fingerprint'][:24]}: {found['files']} files, {found['bytes']:,} bytes, "
            f"all as written; content digest {found['digest']}"
        )


def rollback(
    release: Annotated[
        str | None, typer.Argument(help="How the release's fingerprint begins; without it, the one before the current.")
    ] = None,
    recipe: RecipeOption = DEFAULT_RECIPE,
    as_json: JsonOption = False,
) -> None:
    """Make an earlier release current again, after every byte of it is verified."""
    from resources.releases import releases
    from resources.store.home import speed_home
    from resources.store.shared_store import store_of

    name = "" if release else load(recipe).name
    found = releases.roll_back(store_of(speed_home()), name, release)
    if as_json:
        show_json({"release": found.fingerprint, "recipe": found.recipe, "path": str(found.path)})
        return
    out(f"release {found.short} of recipe {found.recipe} is current: every byte is as written")


def push(
    release: ReleaseArgument,
    to: Annotated[
        str, typer.Option("--to", metavar="OWNER/NAME", help="Repository of the model and of the data set on the hub.")
    ],
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Print which files of a release would be sent to a hub, and send them with --yes."""
    from resources.releases import hub, releases
    from resources.store.home import speed_home
    from resources.store.shared_store import store_of

    found = releases.find_release(store_of(speed_home()), release)
    against = hub.push_objections(found, to)
    files = [(upload.kind, name, size) for upload in hub.planned_uploads(found, to) for name, size in upload.sizes()]
    total = sum(size for _, _, size in files)
    if not as_json:
        for kind, name, size in files:
            out(f"{kind:<8}{size:>14,}  {printable(name)}" + ("  (card)" if name == hub.CARD else ""))
        out(f"{total:,} bytes of release {found.short} to {printable(to)}, as a model and as a data set")
    for reason in against:
        fail(printable(reason))
    sent = list(hub.push_release(found, to)) if yes and not against else []
    if as_json:
        listed = [{"kind": kind, "file": name, "bytes": size} for kind, name, size in files]
        show_json({"files": listed, "bytes": total, "refused": list(against), "sent": sent})
    elif sent or not against:
        show([f"sent: {printable(place)}" for place in sent] or ["nothing was sent: say --yes to send it"])
    if against:
        raise typer.Exit(1)
