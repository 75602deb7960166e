"""What the asset graph marks after a change, and what *Materialize unsynced* offers, is what `speed plan` lists; one click makes it
fresh.

`speed ui` on a home of which all is made, and a real Chromium. The tests run in this order: some of them click, and what they
make is there for the next.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from benchmarks.staleness_in_ui import SmallProject
from speed_assets.recipe import PROJECT, ROW_COUNTS, load_recipe
from tests.support.homes import digests
from tests.support.servers import NotInstalled

pytest.importorskip("playwright")
from tests.support.ui import Ui, chromium, chromium_program, serving

pytestmark = [
    pytest.mark.ui,
    pytest.mark.timeout(2400),  # each wait is bounded besides: on idle cores no test takes a minute
]


@dataclass
class Seen:
    """A home with its UI in a browser, and the recipe as it was when all was made last."""

    project: SmallProject
    ui: Ui
    made: Any

    def change(self, change: Callable[[SmallProject], None]) -> None:
        """Change the recipe as it was made last."""
        self.project.data, self.project.topics, self.project.wording = deepcopy(self.made)
        change(self.project)
        self.project.write()

    def planned_and_marked(self) -> tuple[set[str], set[str]]:
        """What a plan would make or record, and what the graph marks. The dialog of *Materialize unsynced* lists the latter, too."""
        self.ui.graph(opened=True)
        planned = self.project.planned()  # while the page is drawn
        marked = self.ui.marked()
        assert self.ui.unsynced() == marked
        return planned, marked

    def keep(self) -> None:
        """All is made under the recipe as it is."""
        self.made = deepcopy((self.project.data, self.project.topics, self.project.wording))


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    try:
        chromium_program()
    except NotInstalled as missing:
        pytest.skip(str(missing))
    folder = tmp_path_factory.mktemp("ui")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("DAGSTER_HOME", "SPEED_HOME", "SPEED_RECIPE", "SPEED_TOPICS"):
            patch.delenv(name, raising=False)  # set by what runs below, and then as it was
        project = SmallProject(folder)
        _speed_run(project.file, project.home)
        with serving(project.file, project.home, folder / "ui.log") as address, chromium() as browser:
            found = Seen(project, Ui.on_a_wall(browser, address), None)
            found.keep()
            yield found


def _speed_run(recipe: Path, home: Path) -> None:
    """`speed run`, in a process of its own: a browser has the event loop of this one."""
    command = [sys.executable, "-m", "speed_assets.cli", "run", "--recipe", str(recipe)]
    ended = subprocess.run(
        command, cwd=PROJECT, env={**os.environ, "SPEED_HOME": str(home)}, capture_output=True, text=True, timeout=900
    )
    assert ended.returncode == 0, ended.stderr[-2000:]


def _set(path: str, value: Any) -> Callable[[SmallProject], None]:
    """A change of one field of the recipe."""

    def change(project: SmallProject) -> None:
        *parents, last = path.split(".")
        section = project.data
        for name in parents:
            section = section[name]
        assert section.get(last) != value, f"{path} is {value} already"
        section[last] = value

    return change


def _topic(project: SmallProject) -> None:
    project.topics.append("Arts/Glass/Studio_Work/Goblets")


def _wording(project: SmallProject) -> None:
    project.wording["attributes"] = {"query_type": "a kind of {value}"}


def _no_sts(project: SmallProject) -> None:
    for section, field in ROW_COUNTS:
        project.data[section][field] = {**project.data[section][field], "sts": 0}


SHOWN: dict[str, Callable[[SmallProject], None]] = {
    "one topic more": _topic,
    "the wording of one prompt": _wording,
    "rows of one type": _set("seed_data.rows", {"classification": 16, "retrieval": 16, "sts": 14, "matching_short": 10, "matching_long": 10}),
    "another teacher": _set("teacher.revision", "2"),
    "a teacher that errs more": _set("teacher.error_rates.judge", 0.2),
    "a type switched off": _no_sts,
    "and on again": lambda _world: None,
    "an evaluation set": _set("evaluation.microworld.rows", 61),
    "a filter": _set("final_triplets.near_duplicates.jaccard", 0.8),
    "the number of reruns": _set("embedding_reruns.count", 2),
    "a licence of the release": _set("release.model_licence", "other"),
    "the seed": _set("seed", 2),
}  # fmt: skip
CLICKED: dict[str, tuple[Callable[[SmallProject], None], set[str]]] = {
    "a threshold": (_set("checks.kept_min", 0.01), {"final_triplets", "release"}),
    "a learning rate": (_set("embedding_model.learning_rate", 0.05), {"embedding_model", "mteb_scores", "release"}),
    "rows of one type at scale": (
        _set("senior_data.rows", {"classification": 32, "retrieval": 30, "sts": 32, "matching_short": 20, "matching_long": 20}),
        {"senior_data/retrieval", "revised_data/retrieval", "row_scores", "final_triplets", "embedding_model", "release"},
    ),
}  # fmt: skip


def test_nothing_is_marked_where_all_is_made(seen: Seen) -> None:
    assert seen.planned_and_marked() == (set(), set())


@pytest.mark.parametrize("what", SHOWN)
def test_what_is_marked_after_a_change_is_what_the_plan_lists(seen: Seen, what: str) -> None:
    seen.change(SHOWN[what])
    seen.ui.reload_by_question()
    planned, marked = seen.planned_and_marked()
    assert marked == planned
    assert bool(planned) == (what != "and on again")


@pytest.mark.parametrize("what", CLICKED)
def test_one_click_makes_all_fresh_in_one_run(seen: Seen, what: str) -> None:
    change, stale = CLICKED[what]
    seen.change(change)
    seen.ui.reload_definitions()
    planned, marked = seen.planned_and_marked()
    assert stale <= planned == marked
    run, launched, status = seen.ui.confirm_unsynced()
    assert (launched, status) == (planned, "SUCCESS"), run
    seen.keep()
    assert seen.planned_and_marked() == (set(), set()), "before the definitions are loaded again"
    seen.ui.reload_definitions()
    assert seen.planned_and_marked() == (set(), set()), "and after"


def test_what_clicks_have_made_is_what_a_run_makes(seen: Seen, tmp_path: Path) -> None:
    _speed_run(seen.project.file, tmp_path / "home")
    recipe = load_recipe(seen.project.file)
    assert digests(recipe, seen.project.home) == digests(recipe, tmp_path / "home")
