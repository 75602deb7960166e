"""Whether Dagster shows as stale what a run would make: `python -m benchmarks.staleness_in_ui`.

A real webserver on loopback has the small recipe and a home in which all of it is made. Then the recipe, its topics or its
wording change at random, one after another; after each change the code location is reloaded, and the assets that the asset graph
marks as stale or missing, by the question that the UI itself asks, are compared with those that `speed plan` would make or record. After every fourth change the
recipe is run as far as some asset, so that states between two recipes are compared, too. At the end all is as in the beginning
and run as a whole: then nothing may be stale, and nothing planned. Last line: one JSON object.

Belongs here: the changes and the comparison. Not here: how staleness is decided (`speed_assets/orchestration/staleness.py`).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from speed_assets.domain.fingerprints import seed_for
from speed_assets.domain.task_types import TOPIC_TYPES
from speed_assets.orchestration import runs
from speed_assets.orchestration.plan import plan
from speed_assets.recipe import PROJECT, RECIPES, load_recipe
from tests.support.servers import free_port
from tests.support.small import small_data

LOCATION = "speed_assets"
STATUSES = "query { assetNodes { assetKey { path } staleStatus } }"
RELOAD = """mutation($name: String!) { reloadRepositoryLocation(repositoryLocationName: $name) {
  __typename ... on WorkspaceLocationEntry { locationOrLoadError { __typename ... on PythonError { message } } } } }"""


class SmallProject:
    """The small recipe in a folder, changed through its files as a user would."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.file = folder / "tiny.yaml"
        self.data = small_data()
        topics, alignment = ((RECIPES / self.data["topics"][name]).read_text() for name in ("file", "alignment"))
        self.topics = [line for line in topics.splitlines() if line and not line.startswith("#")][:20]
        (folder / "alignment.txt").write_text("\n".join(alignment.splitlines()[:20]) + "\n")
        self.data["topics"] |= {"file": "topics.txt", "alignment": "alignment.txt", "limit": None}
        self.data["prompts"]["file"] = "wording.yaml"
        self.wording: dict[str, Any] = {}
        self.write()

    def write(self) -> None:
        self.file.write_text(yaml.safe_dump(self.data))
        (self.file.parent / "topics.txt").write_text("\n".join(self.topics) + "\n")
        (self.file.parent / "wording.yaml").write_text(yaml.safe_dump(self.wording))

    def planned(self) -> set[str]:
        """The assets that a run would launch."""
        steps = plan(load_recipe(self.file), self.home).steps
        return {step.name for step in steps if step.action != "reuse"}

    def run(self, select: str | None = None) -> None:
        report = runs.run(load_recipe(self.file), self.home, select=select)
        for error in report.errors:  # a gate that refuses leaves a state to compare like any other
            print(f"  {error}", file=sys.stderr, flush=True)


Change = Callable[[SmallProject, random.Random], str]


def _number(path: str, *values: Any) -> Change:
    """A change of one number of the recipe to another of these values."""

    def change(project: SmallProject, rng: random.Random) -> str:
        *parents, last = path.split(".")
        section = project.data
        for name in parents:
            section = section.setdefault(name, {})
        section[last] = rng.choice([value for value in values if value != section.get(last)])
        return f"{path} = {section[last]}"

    return change


def _rows(section: str) -> Change:
    def change(project: SmallProject, rng: random.Random) -> str:
        name = rng.choice(TOPIC_TYPES)
        project.data[section]["rows"] = dict(project.data[section]["rows"])
        project.data[section]["rows"][name] -= rng.choice([1, 2])
        return f"{section}.rows.{name} = {project.data[section]['rows'][name]}"

    return change


def _topic(project: SmallProject, rng: random.Random) -> str:
    line = f"Arts/Glass/Studio_Work/Goblets_{rng.randrange(1000)}"
    if rng.random() < 0.5:
        project.topics.append(line)
        return f"topic {line} added"
    gone = project.topics.pop(rng.randrange(len(project.topics)))
    return f"topic {gone} removed"


def _wording(project: SmallProject, rng: random.Random) -> str:
    """Another number of the set, or other words for one attribute, which only some task types have."""
    name = rng.choice(["unit", "query_type", "text_length"])
    project.wording.setdefault("attributes", {})[name] = (
        f"{rng.choice(['a', 'the', 'some'])}{rng.randrange(9)} {{value}}"
    )
    return f"wording of {name}"


def _back(project: SmallProject, rng: random.Random) -> str:
    """Back to the recipe, topics and wording of the beginning."""
    first = SmallProject.__new__(SmallProject)
    SmallProject.__init__(first, project.file.parent)
    project.data, project.topics, project.wording = first.data, first.topics, first.wording
    return "all as in the beginning"


CHANGES: tuple[Change, ...] = (
    _topic,
    _topic,
    _wording,
    _back,
    _rows("seed_data"),
    _rows("revision_data"),
    _rows("senior_data"),
    _number("teacher.revision", "1", "2", "3"),
    _number("seed", 1, 2),
    _number("junior_model.epochs", 2, 3),
    _number("senior_model.beta", 0.4, 0.5),
    _number("revised_data.readings", 2, 3),
    _number("row_scores.folds", 4, 5),
    _number("final_triplets.near_duplicates.jaccard", 0.85, 0.9),
    _number("final_triplets.contamination.ngram", 8, 9),
    _number("embedding_model.epochs", 14, 15),
    _number("embedding_reruns.count", 0, 1),
    _number("mteb_scores.bm25", True, False),
    _number("evaluation.microworld.rows", 60, 61),
    _number("checks.pairs_min", 0, 1),
    _number("checks.kept_min", 0.0, 0.01),
    _number("release.model_licence", "mit", "other"),
    _number("description", "one", "two"),
)


@contextmanager
def webserver(project: SmallProject) -> Iterator[Callable[[str, dict[str, Any]], Any]]:
    """A webserver on loopback that serves this project; yields a function that asks it by GraphQL."""
    port = free_port()
    command = [sys.executable, "-m", "dagster_webserver", "-h", "127.0.0.1", "-p", str(port)]
    environment = {
        **os.environ,
        "SPEED_HOME": str(project.home),
        "SPEED_RECIPE": str(project.file),
        "DAGSTER_HOME": str(project.home / "dagster"),
    }
    environment.pop("SPEED_TOPICS", None)
    with (project.file.parent / "webserver.log").open("wb") as log:
        server = subprocess.Popen(
            [*command, "-w", str(PROJECT / "workspace.yaml")], cwd=PROJECT, env=environment, stdout=log, stderr=log
        )

    def ask(query: str, variables: dict[str, Any]) -> Any:
        body = json.dumps({"query": query, "variables": variables}).encode()
        address = f"http://127.0.0.1:{port}/graphql"
        request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=300) as response:
            answer = json.load(response)
        if answer.get("errors"):
            raise RuntimeError(str(answer["errors"])[:2000])
        return answer["data"]

    try:
        for _attempt in range(600):
            try:
                ask("query { version }", {})
                break
            except OSError:
                if server.poll() is not None:
                    raise RuntimeError("the webserver has ended; its log is webserver.log") from None
                time.sleep(0.5)
        yield ask
    finally:
        server.terminate()
        server.wait(60)


def shown(ask: Callable[[str, dict[str, Any]], Any]) -> set[str]:
    """All assets that are STALE or MISSING after the code location is loaded again."""
    reloaded = ask(RELOAD, {"name": LOCATION})["reloadRepositoryLocation"]
    if (reloaded.get("locationOrLoadError") or {}).get("__typename") != "RepositoryLocation":
        raise RuntimeError(f"the definitions cannot be loaded: {reloaded}")
    return {name_of(node) for node in ask(STATUSES, {})["assetNodes"] if node["staleStatus"] != "FRESH"}


def name_of(node: dict[str, Any]) -> str:
    return "/".join(node["assetKey"]["path"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--changes", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    rng = random.Random(seed_for(args.seed, "benchmark", "staleness"))
    comparisons, differing = [], []
    with tempfile.TemporaryDirectory() as temporary:
        project = SmallProject(Path(temporary))
        project.run()
        with webserver(project) as ask:

            def compare(what: str) -> set[str]:
                planned, marked = project.planned(), shown(ask)
                comparisons.append({"change": what, "stale": len(planned)})
                print(f"{what}: {len(planned)} planned, {len(marked)} shown", file=sys.stderr, flush=True)
                if planned != marked:
                    only = {"planned": sorted(planned - marked), "shown": sorted(marked - planned)}
                    differing.append({"change": what, **only})
                    print(f"  differing: {only}", file=sys.stderr, flush=True)
                return planned

            compare("nothing, all made")
            names = list(load_recipe(project.file).graph())
            for number in range(1, args.changes + 1):
                what = rng.choice(CHANGES)(project, rng)
                project.write()
                compare(what)
                if number % 4 == 0:
                    asset = rng.choice(names)
                    project.run(select=f"*{asset}")
                    compare(f"run as far as {asset}")
            _back(project, rng)
            project.run()
            left = compare("all as in the beginning, and run")
    agree = len(comparisons) - len(differing)
    result = {"changes": args.changes, "comparisons": len(comparisons), "agree": agree, "left_at_the_end": len(left)}
    print(json.dumps({**result, "differing": differing, "stale": [entry["stale"] for entry in comparisons]}))


if __name__ == "__main__":
    main()
