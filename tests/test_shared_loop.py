"""The whole loop with nothing at home: ledger and Dagster's storage in PostgreSQL, artifacts in S3, and kills in the middle."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from benchmarks.shared_stores import measure, stores
from resources.store import bucket
from resources.store.bucket import Bucket, bucket_at
from resources.store.home import prepare_home
from resources.store.store import StoreError
from speed_assets.orchestration import runs
from speed_assets.orchestration.plan import plan
from speed_assets.recipe import Recipe, load_recipe, parse_recipe
from tests.support.servers import POSTGRES_PASSWORD, S3, S3_SECRET
from tests.support.tiny import ROWS

pytestmark = [pytest.mark.timeout(1800), pytest.mark.faults]


class World(NamedTuple):
    folder: Path
    variables: dict[str, str]
    result: dict[str, Any]
    recipe: Recipe


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, postgres_server: str, s3_server: S3) -> World:
    """The tiny recipe on shared stores, killed twice and finished, and run again in a second, empty home."""
    folder = tmp_path_factory.mktemp("world")
    variables = stores(postgres_server, s3_server)
    result = measure(folder, variables, s3_server, small=True, seed=1, compared="+key:senior_data")
    return World(folder, variables, result, load_recipe(folder / "tiny.yaml"))


@pytest.fixture
def machine(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home on the stores of the world, as a process of its own sees them."""
    for name, value in world.variables.items():
        monkeypatch.setenv(name, value)
    for name in ("DAGSTER_HOME", "SPEED_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    bucket_at.cache_clear()
    return tmp_path


def test_killed_runs_resume_and_end_where_a_plain_home_ends(world: World) -> None:
    assert world.result["identical"]
    assert world.result["artifacts"] == 28
    assert world.result["repeated"] == 0
    asking, in_upload = world.result["acknowledged_at_kills"]
    assert 0 < asking < in_upload <= world.result["calls"]


def test_a_second_home_fetches_everything_and_makes_and_asks_nothing(world: World) -> None:
    assert (world.result["second_made"], world.result["second_calls"]) == ([], 0)
    assert world.result["second_traffic"]["down_bytes"] > 1_000_000
    assert world.result["second_traffic"]["up_bytes"] == 0
    assert (world.folder / "second" / "releases" / "current" / "tiny" / "model" / "modules.json").is_file()


def test_a_plan_fetches_no_model(world: World, machine: Path) -> None:
    planned = plan(world.recipe, machine).as_json()
    assert (planned["make"], planned["record"], planned["calls"]) == ([], [], 0)
    assert list((machine / "artifacts").iterdir()) == [], "nothing at all where nothing changes"
    data = yaml.safe_load((world.folder / "tiny.yaml").read_text())
    data["preference_pairs"]["prompts"] = dict.fromkeys(ROWS, 5)
    planned = plan(parse_recipe(data, world.folder / "tiny.yaml"), machine).as_json()
    assert "preference_pairs/sts" in planned["make"]
    fetched = {path.name for path in (machine / "artifacts").iterdir()}
    assert fetched
    assert not any(name.endswith(("_model", "_models", "_reruns")) for name in fetched)


def test_a_flipped_byte_in_s3_is_reported_and_made_again(world: World, machine: Path) -> None:
    behind = Bucket(world.variables["SPEED_STORE_URL"])
    files = behind.sizes("artifacts/seed_data")
    name = f"artifacts/seed_data/{min(n for n in files if n.endswith('data.parquet'))}"
    good = behind.read(name)
    assert good is not None
    behind.write(name, good[:99] + bytes([good[99] ^ 4]) + good[100:])
    said: list[str] = []
    report = runs.run(world.recipe, machine, select="*seed_data", say=said.append)
    assert report.errors == []
    assert [made.split("/")[0] for made in report.made] == ["seed_data"]
    assert all(report.metadata[made]["teacher_calls"] == 0 for made in report.made)
    assert any(line.startswith("damaged: seed_data: data.parquet has changed") for line in said)
    bucket_at.cache_clear()
    assert runs.run(world.recipe, machine / "next", select="*seed_data").made == {}


def test_a_store_that_is_down_is_reported_before_anything_is_made(
    world: World, machine: Path, s3_server: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket, "WAIT_S", 0.001)
    s3_server.stop()
    try:
        with pytest.raises(StoreError, match=r"shared store s3://.* tried 6 times"):
            runs.run(world.recipe, machine)
    finally:
        s3_server.start()


def test_no_secret_is_kept_anywhere(world: World, postgres_server: str) -> None:
    secrets = [S3_SECRET.encode(), POSTGRES_PASSWORD.encode()]
    for file in world.folder.rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            assert not any(secret in content for secret in secrets), file
    import psycopg

    url = world.variables["SPEED_DAGSTER_POSTGRES_URL"].replace("+psycopg2", "")
    with psycopg.connect(url) as connection:
        for table, column in (("event_logs", "event"), ("runs", "run_body")):
            query = f"SELECT count(*), count(*) FILTER (WHERE {column} LIKE ANY(%s)) FROM {table}"
            rows, leaks = connection.execute(query.encode(), [[f"%{s.decode()}%" for s in secrets]]).fetchone() or (
                0,
                0,
            )
            assert rows
            assert not leaks


def test_the_instance_says_where_it_keeps_its_storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPEED_DAGSTER_POSTGRES_URL", raising=False)
    config = prepare_home(tmp_path) / "dagster.yaml"
    plain = config.read_text()
    assert "postgres" not in plain
    monkeypatch.setenv("SPEED_DAGSTER_POSTGRES_URL", f"postgresql+psycopg2://me:{POSTGRES_PASSWORD}@127.0.0.1:1/d")
    prepare_home(tmp_path)
    assert config.read_text().startswith(plain)
    assert "env: SPEED_DAGSTER_POSTGRES_URL" in config.read_text()
    assert POSTGRES_PASSWORD not in config.read_text()
    with pytest.raises(StoreError, match="see that the database runs") as caught:
        runs.Instance.of(tmp_path)
    assert POSTGRES_PASSWORD not in str(caught.value)
    monkeypatch.delenv("SPEED_DAGSTER_POSTGRES_URL")
    with pytest.raises(StoreError, match="set SPEED_DAGSTER_POSTGRES_URL"):
        prepare_home(tmp_path)
    config.write_text(f"{plain}# mine\n")
    assert prepare_home(tmp_path)
    monkeypatch.setenv("SPEED_DAGSTER_POSTGRES_URL", f"postgresql://me:{POSTGRES_PASSWORD}@127.0.0.1:1/d")
    with pytest.raises(StoreError, match="is your own and does not read"):
        prepare_home(tmp_path)
    config.unlink()
    with pytest.raises(StoreError, match=r"write postgresql\+psycopg2") as caught:
        prepare_home(tmp_path)
    assert POSTGRES_PASSWORD not in str(caught.value)
