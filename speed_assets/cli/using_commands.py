"""Commands that use a release: `search`, `serve`, `check-served`.

Belongs here: their arguments and what they print. Not here: what they do (`orchestration/using_releases.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Annotated

import typer

from speed_assets.cli.options import JsonOption
from speed_assets.cli.output import out, printable, show_json, show_table, width

if TYPE_CHECKING:
    from resources.compute.runner import Runner
    from resources.releases.releases import Release
    from resources.store.store import Store
    from speed_assets.orchestration.using_releases import Hit, Search

PANEL = "Releases"
TOP, SAMPLE, TOLERANCE = 5, 64, 0.001
"""Passages for a query; texts that a server is checked on; largest distance of one (ours: bfloat16 stays below a tenth of it)."""
_TEXT_MOST = 60
"""Characters of a passage in a line, at most."""
ReleaseArgument = Annotated[str, typer.Argument(help="Folder of a release, or how its fingerprint begins.")]


def register(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    for name, function, example in (
        ("search", search, 'speed search 3f9a "how to bleed a radiator" --top 3'),
        ("serve", serve, "speed serve 3f9a --port 8012"),
        ("check-served", check_served, "speed check-served http://127.0.0.1:8012/v1 3f9a"),
    ):
        app.command(name, rich_help_panel=PANEL, epilog=f"Example: {example}")(function)


@contextmanager
def _release(name: str) -> Iterator[tuple[Store, Runner, Release]]:
    """The store of the home, workers that end with the block, and the release of that name."""
    from resources.compute.runner import Runner
    from resources.releases.releases import find_release
    from resources.store.home import speed_home
    from resources.store.shared_store import store_of

    home = speed_home()
    store = store_of(home)
    runner = Runner(home, warm=False)
    try:
        yield store, runner, find_release(store, name)
    finally:
        runner.close()


def search(
    release: ReleaseArgument,
    queries: Annotated[
        list[str], typer.Argument(metavar="QUERY...", help="What to search for; several are several searches.")
    ],
    corpus: Annotated[
        Path | None,
        typer.Option("--corpus", metavar="FILE|DIR", help="Documents to search, in place of those of the release."),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option("--base", metavar="MODEL", help="Model to compare with, in place of the release's base."),
    ] = None,
    top: Annotated[int, typer.Option("--top", metavar="N", min=1, max=1000, help="Passages for each query.")] = TOP,
    as_json: JsonOption = False,
) -> None:
    """Show what a release's model finds for a query, next to what its base model finds."""
    from speed_assets.orchestration import using_releases

    with _release(release) as (store, runner, found):
        result = using_releases.search(store, runner, found, queries, corpus, base, top)
    if as_json:
        show_json(result.as_json())
        return
    _print_search(result, found.short)


def _print_search(result: Search, name: str) -> None:
    header = ["", f"release {name}", *([f"base {Path(result.base).name}"] if result.base else [])]
    room = max(20, min(_TEXT_MOST, (width() - 4) // (len(header) - 1) - 2))
    for number, one in enumerate(result.answers):
        out(f"{chr(10) if number else ''}{printable(one.query)}")
        sides = (one.release, one.base) if result.base else (one.release,)
        rows = [[str(hits[0].rank), *(_cell(hit, room) for hit in hits)] for hits in zip(*sides, strict=True)]
        show_table([shorten(cell, room, placeholder="…") for cell in header], rows, text=(0, 1, 2))
    ranks = "; after # the rank under the other model" if result.base else ""
    out(f"\n{result.passages:,} passages; cosine similarity{ranks}")


def _cell(hit: Hit, room: int) -> str:
    head = f"{hit.score:.2f}" + (f" #{hit.other_rank}" if hit.other_rank is not None else "")
    text = " ".join(hit.text.split()) or hit.document_id
    left = room - len(head) - 1
    return f"{head} {printable(text if len(text) <= left else text[: left - 1] + '…')}"


def serve(
    release: ReleaseArgument,
    port: Annotated[
        int, typer.Option("--port", metavar="N", min=0, max=65535, help="Port of loopback; 0 takes a free one.")
    ] = 8012,
) -> None:
    """Serve a release's model on loopback: /v1/embeddings as in OpenAI's API, until Ctrl-C."""
    from speed_assets.orchestration import using_releases

    with _release(release) as (_store, _runner, found):
        pass
    using_releases.serve(found, port)


def check_served(
    url: Annotated[str, typer.Argument(help="Base URL of the server, such as http://127.0.0.1:8012/v1.")],
    release: ReleaseArgument,
    model: Annotated[
        str | None, typer.Option("--model", metavar="NAME", help="Name of the model there (default: the release's).")
    ] = None,
    sample: Annotated[
        int, typer.Option("--sample", metavar="N", min=1, max=10_000, help="Texts of the release to compare.")
    ] = SAMPLE,
    tolerance: Annotated[
        float,
        typer.Option(
            "--tolerance",
            metavar="DISTANCE",
            min=0,
            max=2,
            help="Largest 1 - cosine similarity between both vectors of a text.",
        ),
    ] = TOLERANCE,
    key_variable: Annotated[
        str | None, typer.Option("--key-variable", metavar="NAME", help="Environment variable with the server's key.")
    ] = None,
    timeout: Annotated[float, typer.Option("--timeout", min=1, metavar="SECONDS", help="Of one request.")] = 60.0,
    as_json: JsonOption = False,
) -> None:
    """Compare a server's vectors with those of a release; the status is 1 where one is farther than the tolerance."""
    from resources.store.home import speed_home
    from speed_assets.orchestration import using_releases

    with _release(release) as (_store, runner, found):
        drift, texts = using_releases.check_served(
            runner,
            speed_home(),
            found,
            url,
            model=model,
            sample=sample,
            tolerance=tolerance,
            key_variable=key_variable,
            timeout_s=timeout,
        )
    if as_json:
        show_json({**asdict(drift), "tolerance": tolerance, "release": found.fingerprint})
    else:
        word = "farther than the tolerance" if drift.over else "as the release's"
        out(
            f"{drift.texts} texts, {drift.width} numbers each: {word}. Largest distance {drift.largest:.2g}, mean "
            f"{drift.mean:.2g}, tolerance {tolerance:g}; mean length {drift.length_served:.4g}, the release's {drift.length_own:.4g}"
        )
        for number in drift.over[:TOP]:
            out(f"  {printable(shorten(texts[number], 70, placeholder='…'))}")
    if drift.over:
        raise typer.Exit(1)
