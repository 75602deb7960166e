"""What *Materialize unsynced* offers in the Dagster UI after a change is what `speed plan` lists, and one click makes it fresh.

`speed ui` on a home of which all is made, and a real Chromium. The tests run in this order: some of them click, and what they
make is there for the next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from benchmarks.staleness_in_ui import World
from speed_assets.orchestration import runs
from speed_assets.recipe import load_recipe
from tests.support.homes import digests
from tests.support.servers import NotInstalled

pytest.importorskip("playwright")
from tests.support.ui import SIZE, Ui, chromium, serving

pytestmark = [
    pytest.mark.ui,
    pytest.mark.timeout(1800),
]  # the whole takes minutes, on a busy machine a quarter of an hour


@dataclass
class Seen:
    """A home with its UI in a browser, and the recipe as it was when all was made last."""

    world: World
    ui: Ui
    made: Any

    def changed(self, change: Callable[[World], None]) -> set[str]:
        """Change the recipe as it was made last; returns what a plan would make or record."""
        self.world.data, self.world.topics, self.world.wording = deepcopy(self.made)
        change(self.world)
        self.world.write()
        return self.world.planned()

    def keep(self) -> None:
        """All is made under the recipe as it is."""
        self.made = deepcopy((self.world.data, self.world.topics, self.world.wording))


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    folder = tmp_path_factory.mktemp("ui")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("DAGSTER_HOME", "SPEED_HOME", "SPEED_RECIPE", "SPEED_TOPICS"):
            patch.delenv(name, raising=False)  # set by what runs below, and then as it was
        browsers = chromium()
        try:
            browser = browsers.__enter__()
        except NotInstalled as missing:
            pytest.skip(str(missing))
        try:
            world = World(folder)
            world.run()
            with serving(world.file, world.home, folder / "ui.log") as address:
                found = Seen(world, Ui(browser.new_page(viewport=SIZE), address), None)  # type: ignore[arg-type]
                found.keep()
                found.ui.graph()
                yield found
        finally:
            browsers.__exit__(None, None, None)


def _set(path: str, value: Any) -> Callable[[World], None]:
    """A change of one field of the recipe."""

    def change(world: World) -> None:
        *parents, last = path.split(".")
        section = world.data
        for name in parents:
            section = section[name]
        assert section.get(last) != value, f"{path} is {value} already"
        section[last] = value

    return change


def _topic(world: World) -> None:
    world.topics.append("Arts/Glass/Studio_Work/Goblets")


def _wording(world: World) -> None:
    world.wording["attributes"] = {"query_type": "a kind of {value}"}


def _no_sts(world: World) -> None:
    for section, field in (
        ("seed_data", "rows"),
        ("junior_data", "prompts"),
        ("preference_pairs", "prompts"),
        ("revision_data", "rows"),
        ("senior_data", "rows"),
        ("row_verdicts", "rows"),
    ):
        world.data[section][field] = {**world.data[section][field], "sts": 0}


SHOWN: dict[str, Callable[[World], None]] = {
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
CLICKED: dict[str, tuple[Callable[[World], None], set[str]]] = {
    "a threshold": (_set("checks.kept_min", 0.01), {"final_triplets", "release"}),
    "a learning rate": (_set("embedding_model.learning_rate", 0.05), {"embedding_model", "mteb_scores", "release"}),
    "rows of one type at scale": (
        _set("senior_data.rows", {"classification": 32, "retrieval": 30, "sts": 32, "matching_short": 20, "matching_long": 20}),
        {"senior_data/retrieval", "revised_data/retrieval", "row_scores", "final_triplets", "embedding_model", "release"},
    ),
}  # fmt: skip


def test_nothing_is_marked_where_all_is_made(seen: Seen) -> None:
    assert seen.world.planned() == set()
    assert seen.ui.unsynced() == set()


@pytest.mark.parametrize("what", SHOWN)
def test_what_is_marked_after_a_change_is_what_the_plan_lists(seen: Seen, what: str) -> None:
    planned = seen.changed(SHOWN[what])
    seen.ui.reload_definitions()
    assert seen.ui.unsynced() == planned
    assert bool(planned) == (what != "and on again")


@pytest.mark.parametrize("what", CLICKED)
def test_one_click_makes_all_fresh_in_one_run(seen: Seen, what: str) -> None:
    change, stale = CLICKED[what]
    planned = seen.changed(change)
    assert stale <= planned
    seen.ui.reload_definitions()
    assert seen.ui.unsynced() == planned
    run, launched, status = seen.ui.materialize_unsynced()
    assert (launched, status) == (planned, "SUCCESS"), run
    assert seen.world.planned() == set()
    seen.keep()
    seen.ui.graph()
    assert seen.ui.unsynced() == set(), "before the definitions are loaded again"
    seen.ui.reload_definitions()
    assert seen.ui.unsynced() == set(), "and after"


def test_what_clicks_have_made_is_what_a_run_makes(seen: Seen, tmp_path: Path) -> None:
    recipe = load_recipe(seen.world.file)
    report = runs.run(recipe, tmp_path / "home")
    assert report.errors == []
    assert digests(recipe, seen.world.home) == digests(recipe, tmp_path / "home")
