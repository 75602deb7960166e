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
from urllib.parse import urlencode

from playwright.sync_api import Browser, Page, expect, sync_playwright

from speed_assets.recipe import PROJECT
from tests.support.servers import NotInstalled, free_port

SIZE = {"width": 1280, "height": 800}
WAIT_MS = 90_000
"""Milliseconds for a page: a busy machine takes its time."""
RUNS = "{ runsOrError { ... on Runs { results { runId status assetSelection { path } } } } }"
PAUSE_MS = 2500
"""Milliseconds for what a page fetches after it is drawn; it never ceases to ask for news, so there is no end to wait for."""


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
        end = time.monotonic() + 180
        while " serves after " not in log.read_text(errors="replace"):
            if server.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"the UI does not serve: {log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(90)


@contextmanager
def chromium() -> Iterator[Browser]:
    """The Chromium of this machine. Raises NotInstalled."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        raise NotInstalled("no Chromium on this machine: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
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

    def open(self, path: str) -> None:
        """A page, once what it fetches has come."""
        self.page.goto(f"{self.address}/{path}")
        self.page.wait_for_timeout(PAUSE_MS)

    def graph(self) -> None:
        """The global asset graph."""
        self.page.goto(f"{self.address}/asset-groups")
        self.page.get_by_text("Materialize all").wait_for()

    def select(self, assets: str) -> None:
        """The part of the global graph that an asset selection names, with all groups open."""
        self.open(f"asset-groups?{urlencode({'asset-selection': assets})}")
        self.page.keyboard.press("Alt+e")
        self.page.wait_for_timeout(PAUSE_MS)

    def reload_definitions(self) -> None:
        """A click on *Reload definitions*, above the graph, and what it waits for."""
        said = self.page.get_by_text("Definitions reloaded!", exact=True)
        expect(said).to_have_count(0)  # an earlier one stays for some seconds
        self.page.get_by_role("button", name="Reload definitions").click()
        said.first.wait_for()

    def open_unsynced(self) -> set[str]:
        """The assets that the dialog of *Materialize unsynced* lists, which stays open."""
        self.page.locator("button:right-of(:text('Materialize all'))").first.click()
        self.page.get_by_text("Materialize unsynced", exact=True).click()
        dialog = self.page.locator(".dagster-dialog")
        confirm = dialog.get_by_role("button", name=re.compile("^Materialize"))
        done = dialog.get_by_text("All assets are up to date")
        expect(confirm.or_(done).first).to_be_visible()
        if done.is_visible():
            return set()
        listed: set[str] = set()
        rows = dialog.locator("a[href*='/assets/']")
        for _screen in range(20):  # it draws only the rows that are in sight
            listed |= {str(row.get_attribute("href")) for row in rows.all()}
            before = len(listed)
            rows.last.scroll_into_view_if_needed()
            self.page.wait_for_timeout(150)
            listed |= {str(row.get_attribute("href")) for row in rows.all()}
            if len(listed) == before:
                break
        return {href.split("/assets/")[1].split("?")[0] for href in listed}

    def unsynced(self) -> set[str]:
        """The assets that the dialog of *Materialize unsynced* lists, which is closed again."""
        listed = self.open_unsynced()
        dialog = self.page.locator(".dagster-dialog")
        dialog.get_by_role("button", name=re.compile("^(Cancel|Close|Done|OK|Dismiss|Got it)$")).last.click()
        expect(dialog).to_have_count(0)
        return listed

    def materialize_unsynced(self) -> tuple[str, set[str], str]:
        """One click on *Materialize unsynced*, one on its confirmation.

        Returns:
            The runs' one id, its assets, and how it ended. Fails where it is not one run.
        """
        before = {run["runId"] for run in self.runs()}
        self.open_unsynced()
        self.page.locator(".dagster-dialog").get_by_role("button", name=re.compile("^Materialize")).click()
        end = time.monotonic() + 300
        while True:
            new = [run for run in self.runs() if run["runId"] not in before]
            if new and all(run["status"] in ("SUCCESS", "FAILURE", "CANCELED") for run in new):
                break
            assert time.monotonic() < end, f"the run does not end: {new}"
            time.sleep(0.5)
        assert len(new) == 1, f"one click made {len(new)} runs"
        return new[0]["runId"], {"/".join(key["path"]) for key in new[0]["assetSelection"]}, new[0]["status"]

    def runs(self) -> list[dict[str, Any]]:
        body = json.dumps({"query": RUNS}).encode()
        request = urllib.request.Request(f"{self.address}/graphql", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as response:
            found: list[dict[str, Any]] = json.load(response)["data"]["runsOrError"]["results"]
        return found
