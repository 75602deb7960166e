"""`speed ui` of a home, and a Chromium on its pages: what a person sees there, and what a click does.

Belongs here: starting both, and reading and clicking Dagster's pages. Not here: what should be there.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from playwright.sync_api import Browser, Locator, Page, ViewportSize, expect, sync_playwright

from speed_assets.recipe import PROJECT
from tests.support.servers import NotInstalled, free_port

SIZE = ViewportSize(width=1440, height=900)
WALL = ViewportSize(width=8000, height=20000)
"""Pixels of a window in which every node of the graph is in sight: Dagster draws no other, and no mark on small ones."""
WALL_SCALE = 0.1
"""Device pixels for each pixel of that window, since nobody sees it."""
WAIT_MS = 240_000
"""Milliseconds for anything that a page fetches: some seconds on idle cores, but ten times as long on busy ones."""
PAUSE_MS = 1500
"""Milliseconds between two pictures: a page asks for news without end, and is complete once two pictures of it are equal."""
SERVE_S, RUN_S, END_S = 300, 900, 90
"""Seconds that a server has to serve, a run to end, and a server to end."""
RUNS = "{ runsOrError { ... on Runs { results { runId status assetSelection { path } } } } }"
RELOAD = """mutation { reloadRepositoryLocation(repositoryLocationName: "speed_assets") {
  ... on WorkspaceLocationEntry { locationOrLoadError { __typename ... on PythonError { message } } } } }"""
"""What a click on *Reload definitions* sends."""
NODES = "{ assetNodes { groupName assetKey { path } } }"
NEVER = "Never materialized"
DRAWN = """() => [...document.querySelectorAll('foreignObject')].map(drawn => ({
  name: drawn.querySelector('[data-tooltip]')?.dataset.tooltip,
  text: drawn.textContent,
  group: drawn.classList.contains('group'),
  box: ['x', 'y', 'width', 'height'].map(side => Number(drawn.getAttribute(side))),
})).filter(drawn => drawn.name)"""
"""What the graph draws: the boxes of groups, and nodes."""
LISTED = """links => {
  const scrolls = found => found.scrollHeight > found.clientHeight && /auto|scroll/.test(getComputedStyle(found).overflowY);
  let list = links[0]?.parentElement;
  while (list && !scrolls(list)) list = list.parentElement;
  if (list) list.scrollTop = list.scrollTop + list.clientHeight >= list.scrollHeight - 1 ? 0 : list.scrollTop + list.clientHeight / 2;
  return links.map(link => link.getAttribute('href'));
}"""
"""What these links of a list point to; then the list scrolls by half of what is in sight, and from its end to its beginning."""
QUIET = """(() => {
  const fetched = window.fetch;
  const node = ({path}) => ({
    __typename: 'AssetNode', id: path.join(), assetKey: {__typename: 'AssetKey', path}, freshnessInfo: null,
    automationCondition: null, targetingInstigators: [], lastAutoMaterializationEvaluationRecord: null,
  });
  window.fetch = (where, how) => {
    if (!/"operationName":"(AssetAutomationQuery|AssetsFreshnessInfoQuery)"/.test(how?.body ?? '')) return fetched(where, how);
    const data = {assetNodes: JSON.parse(how.body).variables.assetKeys.map(node)};
    return Promise.resolve(new Response(JSON.stringify({data}), {headers: {'Content-Type': 'application/json'}}));
  };
})()"""
"""For pages of which only marks are read: automation and freshness, on which no mark depends, are half of what they ask for."""


@contextmanager
def serving(recipe: Path, home: Path, log: Path) -> Iterator[str]:
    """`speed ui` of a recipe and home on a free port; yields its address once it answers."""
    port = free_port()
    command = [sys.executable, "-m", "speed_assets.cli", "ui", "--recipe", str(recipe), "--port", str(port)]
    environment = {**os.environ, "SPEED_HOME": str(home)}
    environment.pop("SPEED_TOPICS", None)
    with log.open("wb") as output:
        server = subprocess.Popen(command, cwd=PROJECT, env=environment, stdout=output, stderr=output)
    try:
        end = time.monotonic() + SERVE_S
        while " serves after " not in log.read_text(errors="replace"):
            if server.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"the UI does not serve: {log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(END_S)


def chromium_program() -> str:
    """The Chromium of this machine. Raises NotInstalled."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if program := shutil.which(name):
            return program
    raise NotInstalled("no Chromium on this machine: apt-get install chromium")


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser without a window. Raises NotInstalled."""
    program = chromium_program()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"], timeout=WAIT_MS)
        try:
            yield browser
        finally:
            browser.close()


class Ui:
    """Dagster's pages in one tab."""

    def __init__(self, page: Page, address: str) -> None:
        self.page = page
        self.address = address
        page.set_default_timeout(WAIT_MS)
        expect.set_options(timeout=WAIT_MS)

    @classmethod
    def on_a_wall(cls, browser: Browser, address: str) -> Ui:
        """In a window so large that the graph with all its groups open is in sight."""
        page = browser.new_page(viewport=WALL, device_scale_factor=WALL_SCALE)
        page.add_init_script(QUIET)
        return cls(page, address)

    def open(self, path: str, shows: str) -> None:
        """A page, once it shows a text."""
        self.page.goto(f"{self.address}/{path}")
        self.page.get_by_text(shows, exact=True).first.wait_for()

    def picture(self) -> bytes:
        """The page as a PNG, once nothing in it changes any more."""
        end = time.monotonic() + WAIT_MS / 1000
        before = b""
        while (now := self.page.screenshot()) != before:
            assert time.monotonic() < end, "the page changes without end"
            before = now
            self.page.wait_for_timeout(PAUSE_MS)
        return now

    def graph(self, select: str = "", *, opened: bool = False) -> None:
        """The global asset graph.

        Args:
            select: a Dagster asset selection, for a part of it.
            opened: whether all groups are open, as after Alt+E.
        """
        groups = sorted({group for group, _name in self.nodes()}) if opened else ()
        part = f"~{quote(select, safe='')}/" if select else ""
        query = urlencode({"expanded": ",".join(f"global@global:{name}" for name in groups)}) if groups else ""
        self.page.goto(f"{self.address}/asset-groups{part}?{query}")
        self.page.get_by_text("Materialize all").wait_for()

    def reload_definitions(self) -> None:
        """A click on *Reload definitions*, above the graph, and its end. On a new page: an earlier message would stay a while."""
        self.graph()
        self.page.get_by_role("button", name="Reload definitions").click()
        self.page.get_by_text("Definitions reloaded!", exact=True).first.wait_for()

    def reload_by_question(self) -> None:
        """What that click does, without a page."""
        answer = self._ask(RELOAD)["reloadRepositoryLocation"]
        assert answer["locationOrLoadError"]["__typename"] == "RepositoryLocation", answer

    def marked(self) -> set[str]:
        """The assets that the graph marks as unsynced or never materialized, once it has drawn all of them with their status."""
        nodes = {(group.split("/")[-1], name): asset for (group, name), asset in self.nodes().items()}
        end = time.monotonic() + WAIT_MS / 1000
        while True:
            drawn = {nodes.get(node): text for node, text in _drawn(self.page.evaluate(DRAWN))}
            if drawn.keys() == set(nodes.values()) and all(map(_has_status, drawn.values())):
                return {name for name, text in drawn.items() if name and ("Unsynced (" in text or NEVER in text)}
            assert time.monotonic() < end, f"the graph draws {drawn}"
            self.page.wait_for_timeout(100)

    def open_unsynced(self) -> bool:
        """Open the dialog of *Materialize unsynced*, above the graph; returns whether it lists any assets."""
        self.page.locator("button:right-of(:text('Materialize all'))").first.click()
        self.page.get_by_text("Materialize unsynced", exact=True).click()
        dialog, confirm = self._dialog(), self._confirm()
        fresh = dialog.get_by_text("All assets are up to date")
        expect(confirm.or_(fresh).first).to_be_enabled()  # at first it counts none
        return not fresh.is_visible()

    def unsynced(self) -> set[str]:
        """The assets that the dialog of *Materialize unsynced* lists, which stays open."""
        if not self.open_unsynced():
            return set()
        dialog, confirm = self._dialog(), self._confirm()
        links = dialog.locator("a[href*='/assets/']")
        count = int(re.findall(r"\d+", confirm.inner_text())[0])
        listed: set[str] = set()
        end = time.monotonic() + WAIT_MS / 1000
        while time.monotonic() < end:  # only the rows that are in sight are drawn, and on a busy machine late
            listed |= {href.split("/assets/")[1].split("?")[0] for href in links.evaluate_all(LISTED)}
            if len(listed) >= count:
                break
            self.page.wait_for_timeout(50)
        assert len(listed) == count, f"the dialog counts {count} and lists {sorted(listed)}"
        return listed

    def confirm_unsynced(self) -> tuple[str, set[str], str]:
        """The click in the dialog of *Materialize unsynced*, which is open.

        Returns:
            The runs' one id, its assets, and how it ended. Fails where it is not one run.
        """
        before = {run["runId"] for run in self.runs()}
        self._confirm().click()
        end = time.monotonic() + RUN_S
        while True:
            new = [run for run in self.runs() if run["runId"] not in before]
            if new and all(run["status"] in ("SUCCESS", "FAILURE", "CANCELED") for run in new):
                break
            assert time.monotonic() < end, f"the run does not end: {new}"
            time.sleep(0.5)
        assert len(new) == 1, f"one click made {len(new)} runs"
        return new[0]["runId"], {"/".join(key["path"]) for key in new[0]["assetSelection"]}, new[0]["status"]

    def runs(self) -> list[dict[str, Any]]:
        """All runs, with their assets and how they are."""
        found: list[dict[str, Any]] = self._ask(RUNS)["runsOrError"]["results"]
        return found

    def nodes(self) -> dict[tuple[str, str], str]:
        """The assets of the graph, by group and by the name that their node shows: the last part of their key."""
        nodes = self._ask(NODES)["assetNodes"]
        return {(node["groupName"], node["assetKey"]["path"][-1]): "/".join(node["assetKey"]["path"]) for node in nodes}

    def _ask(self, query: str) -> Any:
        body = json.dumps({"query": query}).encode()
        request = urllib.request.Request(f"{self.address}/graphql", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=WAIT_MS / 1000) as response:
            return json.load(response)["data"]

    def _dialog(self) -> Locator:
        return self.page.locator(".dagster-dialog")

    def _confirm(self) -> Locator:
        return self._dialog().get_by_role("button", name=re.compile("^Materialize"))


def _has_status(text: str) -> bool:
    """Whether a node shows the status of its asset, and with it all that is fetched for it."""
    return any(status in text for status in ("Materialized", "Materializing", NEVER, "Failed", "Overdue"))


def _drawn(found: list[dict[str, Any]]) -> Iterator[tuple[tuple[str, str], str]]:
    """Of what `DRAWN` finds, each node: the name of the smallest group around it, its own name, and its text."""
    groups = [entry for entry in found if entry["group"]]
    for node in found:
        if not node["group"]:
            around = [group for group in groups if _within(node["box"], group["box"])]
            smallest = min(around, key=lambda group: group["box"][2] * group["box"][3])["name"] if around else ""
            yield (smallest, node["name"]), node["text"]


def _within(inner: list[float], outer: list[float]) -> bool:
    left, top, width, height = outer
    return left <= inner[0] <= left + width and top <= inner[1] <= top + height
