"""Dagster's daemon, webserver and code server for real: what starts by itself, and what a killed one costs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from resources.instance.run_liveness import PROCESS_GONE
from resources.ledger.ledger import Ledger
from resources.store.home import prepare_home
from speed_assets.orchestration import runs
from speed_assets.recipe import PROJECT, load_recipe
from tests.support.servers import free_port
from tests.support.teacher_server import Faults, read_log, serving
from tests.support.tiny import ROWS, tiny_data, write_recipe

pytestmark = pytest.mark.faults

OFTEN = """
from speed_assets.orchestration import automation
automation.SECONDS = 1
from speed_assets.definitions import defs
"""
"""The definitions as `dg dev` loads them, but that what may start runs is looked at every second."""
REFUSED = "Goblets"
"""The teacher refuses prompts with this word, so topics with it have no task, and the gate of task_list fails."""
TASK_LISTS = {f"task_list/{name}" for name in ROWS}


def wait_until(condition: Callable[[], Any], seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


def children(process: int) -> list[int]:
    """Those that any thread of it has started."""
    lists = Path(f"/proc/{process}/task").glob("*/children")
    return [int(child) for file in lists for child in file.read_text().split()]


def descendants(process: int) -> list[int]:
    below = children(process)
    return below + [deeper for child in below for deeper in descendants(child)]


class World:
    """A home with topics and tasks, and the three processes of a Dagster deployment on it."""

    def __init__(self, folder: Path, url: str, log: Path) -> None:
        self.folder, self.home, self.log = folder, folder / "home", log
        self.topics = folder / "topics.txt"
        data = tiny_data()
        lines = (PROJECT / "recipes" / data["topics"]["file"]).read_text().splitlines()
        self.topics.write_text("\n".join(lines[:20]) + "\n")
        data["topics"] |= {"limit": None}
        data["checks"]["tasks_missing_max"] = 0.0
        data["seed_data"]["rows"] = {**ROWS, "retrieval": 60, "classification": 60, "matching_short": 60}
        data["teacher"] |= {"engine": "openai", "endpoint": url}
        data["calls"] = {"concurrency_start": 2, "concurrency_max": 2}
        data["topics"]["file"] = str(self.topics)
        data["topics"]["alignment"] = str(self.topics)
        self.recipe = write_recipe(folder, data)
        config = prepare_home(self.home) / "dagster.yaml"
        text = config.read_text().replace("max_concurrent_runs: 2", "max_concurrent_runs: 4")
        config.write_text(text.replace("run_monitoring:\n", "run_monitoring:\n  poll_interval_seconds: 2\n"))
        report = runs.run(load_recipe(self.recipe), self.home, select="key:topics or key:task_list")
        assert report.errors == []
        self.instance = dg.DagsterInstance.from_config(str(self.home / "dagster"))
        self.before = {run.run_id for run in self.instance.get_runs()}
        (folder / "often.py").write_text(OFTEN)
        self.code_port, self.web_port = free_port(), free_port()
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, *names: str) -> None:
        """Start these again, or all."""
        code = ("--grpc-host", "127.0.0.1", "--grpc-port", str(self.code_port))
        here = ("-h", "127.0.0.1", "-p")
        commands = {
            "code server": ("dagster", "code-server", "start", "-f", "often.py", *here, str(self.code_port)),
            "webserver": ("dagster-webserver", *here, str(self.web_port), *code),
            "daemon": ("dagster-daemon", "run", *code),
        }
        path = os.pathsep.join(map(str, (PROJECT, PROJECT / "tests")))
        environment = {"DAGSTER_HOME": str(self.home / "dagster"), "SPEED_HOME": str(self.home), "PYTHONPATH": path}
        for name in names or commands:
            program, *arguments = commands[name]
            with (self.folder / f"{name}.log").open("ab") as output:
                self.processes[name] = subprocess.Popen(
                    [str(Path(sys.executable).with_name(program)), *arguments],
                    cwd=self.folder,
                    env=os.environ | environment | {"SPEED_RECIPE": str(self.recipe)},
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
        if "code server" in self.processes:
            wait_until(lambda: self._answers())

    def kill(self, name: str, *, with_runs: bool = True) -> None:
        """SIGKILL; of a code server, with or without the processes of the runs that it has started."""
        process = self.processes.pop(name)
        server = children(process.pid) if name == "code server" else []
        gone = [process.pid, *(descendants(process.pid) if with_runs else server)]
        for one in gone:
            os.kill(one, signal.SIGKILL)
        process.wait()

    def stop(self) -> None:
        for name in list(self.processes):
            self.kill(name)

    def _answers(self) -> bool:
        """Whether the webserver has loaded the definitions."""
        try:
            self.location = self.ask(
                "{ repositoriesOrError { ... on RepositoryConnection { nodes { location { name } } } } }"
            )["repositoriesOrError"]["nodes"][0]["location"]["name"]
        except (OSError, LookupError):
            return False
        return True

    def ask(self, query: str) -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.web_port}/graphql",
            json.dumps({"query": query}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as reply:
            said = json.load(reply)
        assert "errors" not in said, said
        return said["data"]

    def turn_on(self, sensor: str) -> None:
        said = self.ask(
            f'mutation {{ startSensor(sensorSelector: {{sensorName: "{sensor}", repositoryName: "__repository__", '
            f'repositoryLocationName: "{self.location}"}}) {{ ... on Sensor {{ sensorState {{ status }} }} }} }}'
        )
        assert said["startSensor"]["sensorState"]["status"] == "RUNNING"

    def looks(self, sensor: str = "remake_what_is_stale") -> int:
        """How often a sensor has looked."""
        said = self.ask(
            f'{{ sensorOrError(sensorSelector: {{sensorName: "{sensor}", repositoryName: "__repository__", '
            f'repositoryLocationName: "{self.location}"}}) {{ ... on Sensor {{ sensorState {{ ticks {{ id }} }} }} }} }}'
        )
        return len(said["sensorOrError"]["sensorState"]["ticks"])

    def look_on(self, times: int) -> None:
        """Wait until the conditions have been asked so often again."""
        before = self.looks()
        wait_until(lambda: self.looks() >= before + times)

    def launch(self, asset: str) -> str:
        """As from the UI; returns the id of the run."""
        mutation = (
            "mutation { launchRun(executionParams: {selector: {repositoryLocationName: "
            f'"{self.location}", repositoryName: "__repository__", jobName: "__ASSET_JOB", '
            f"assetSelection: [{{path: {json.dumps(asset.split('/'))}}}]}}, runConfigData: {{}}}}) "
            "{ __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"
        )
        said: list[dict[str, Any]] = []

        def taken() -> bool:  # a webserver takes a moment to see that a code server is there again
            said.append(self.ask(mutation)["launchRun"])
            return bool(said[-1]["__typename"] == "LaunchRunSuccess")

        wait_until(taken)
        return str(said[-1]["run"]["runId"])

    def status(self, run: str) -> str:
        found = self.instance.get_run_by_id(run)
        assert found is not None
        return str(found.status.value)

    def launched(self) -> list[set[str]]:
        """The assets of every run that Dagster has launched, first to last."""
        found = [run for run in self.instance.get_runs() if run.run_id not in self.before]
        return [{key.to_user_string() for key in run.asset_selection or ()} for run in reversed(found)]

    def materialized(self) -> dict[str, bool]:
        """Of the newest run, which assets it materialized, and whether their gates passed."""
        run = self.instance.get_runs(limit=1)[0].run_id
        events = self.instance.all_logs(run)
        made = {
            event.dagster_event.asset_key.to_user_string(): True
            for event in events
            if event.dagster_event and event.dagster_event.is_step_materialization and event.dagster_event.asset_key
        }
        failed = [e.dagster_event.step_key or "" for e in events if e.dagster_event and e.dagster_event.is_step_failure]
        return made | {step.replace("__", "/"): False for step in failed}

    def idle(self) -> bool:
        return all(run.is_finished for run in self.instance.get_runs())

    def answered(self) -> list[str]:
        return [entry.key for entry in read_log(self.log) if entry.status == 200 and entry.key]

    def under_way(self, run: str) -> None:
        """Wait until a run has some of its answers."""
        seen = len(self.answered())
        wait_until(lambda: self.status(run) == "STARTED" and len(self.answered()) >= seen + 5)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("SPEED_LEDGER_URL", raising=False)
        patch.setenv("DAGSTER_HOME", "")  # set by what runs below, and then as it was
        patch.setenv("SPEED_HOME", "")
        with serving(folder / "log", faults=Faults(latency_s=0.15, refused=REFUSED)) as url:
            world = World(folder, url, folder / "log")
            world.start()
            try:
                yield world
            finally:
                world.stop()


def nothing_is_lost_or_doubled(world: World) -> None:
    answered = world.answered()
    assert len(answered) == len(set(answered)), "an acknowledged call was sent again"
    assert Ledger.at(world.home).count() == len(answered)


def test_nothing_starts_by_itself(world: World) -> None:
    wait_until(lambda: {"SENSOR", "ASSET", "SCHEDULER"} <= set(world.instance.get_daemon_heartbeats()))
    time.sleep(6)  # the daemon looks every five seconds
    assert world.launched() == []
    assert world.looks() == 0


def test_a_killed_daemon_and_webserver_cost_nothing(world: World) -> None:
    run = world.launch("seed_data/retrieval")
    world.under_way(run)
    world.kill("daemon")
    world.kill("webserver")
    world.start("daemon", "webserver")
    wait_until(lambda: world.status(run) == "SUCCESS")
    nothing_is_lost_or_doubled(world)


def test_a_killed_code_server_leaves_its_runs_at_work(world: World) -> None:
    run = world.launch("seed_data/classification")
    world.under_way(run)
    world.kill("code server", with_runs=False)
    wait_until(lambda: world.status(run) != "STARTED")
    assert world.status(run) == "SUCCESS"
    world.start("code server")
    nothing_is_lost_or_doubled(world)


def test_a_run_that_is_killed_with_its_code_server_is_reported_and_resumes_when_launched_again(world: World) -> None:
    run = world.launch("seed_data/matching_short")
    world.under_way(run)
    world.kill("code server")
    wait_until(lambda: world.status(run) == "FAILURE")
    messages = [event.message for event in world.instance.all_logs(run, of_type=dg.DagsterEventType.PIPELINE_FAILURE)]
    assert any(PROCESS_GONE in message for message in messages), messages
    acknowledged = set(world.answered())
    world.start("code server")
    again = world.launch("seed_data/matching_short")
    wait_until(lambda: world.status(again) == "SUCCESS")
    sent = Counter(world.answered())
    assert len(acknowledged) < len(sent)
    assert sum(sent.values()) - len(sent) <= 2, "only what was under way at the kill may be sent twice"


def test_a_speed_run_next_to_a_launched_one_asks_nothing_twice(world: World) -> None:
    asked = Counter(world.answered())
    run = world.launch("seed_data/matching_long")
    process = subprocess.run(
        [sys.executable, "-m", "speed_assets.cli", "run", "--recipe", str(world.recipe), "--select", "seed_data"],
        cwd=PROJECT,
        env={**os.environ, "SPEED_HOME": str(world.home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    wait_until(lambda: world.status(run) == "SUCCESS")
    new = Counter(world.answered()) - asked
    assert len(new) >= ROWS["matching_long"] + ROWS["sts"]
    assert set(new.values()) == {1}
    world.before |= {one.run_id for one in world.instance.get_runs()}


def test_what_is_stale_is_remade_in_one_run_and_nothing_past_a_failed_gate_or_for_the_same_content(
    world: World,
) -> None:
    before = len(world.launched())
    world.turn_on("remake_what_is_stale")
    world.look_on(2)
    assert len(world.launched()) == before, "turning it on starts nothing"
    lines = world.topics.read_text().splitlines()
    world.topics.write_text("\n".join([*lines[:-1], f"Arts/Glass/Blown_{REFUSED}"]) + "\n")
    wait_until(lambda: len(world.launched()) > before, 240)
    (run,) = world.launched()[before:]
    assert {"topics", *TASK_LISTS, "seed_data/sts", "junior_model", "release"} <= run
    wait_until(world.idle, 240)
    world.look_on(2)
    # STS takes the topic itself for its task, so its gate is passed; the models below miss the other task types.
    made = {name for name, passed in world.materialized().items() if passed}
    assert made == {"topics", "task_list/sts", "seed_data/sts"}
    assert len(world.launched()) == before + 1, "what a failed gate holds up is not launched again"
    again = world.launch("topics")
    wait_until(lambda: world.status(again) == "SUCCESS")
    world.look_on(2)
    assert len(world.launched()) == before + 2, "the same content starts nothing"
