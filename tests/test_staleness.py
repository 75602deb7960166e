"""What Dagster shows as stale is what a run would make: code versions that say so, and a real webserver that is asked."""

from __future__ import annotations

import random
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.staleness import World, shown, webserver
from speed_assets.domain.versions import told

VERSIONS = st.sampled_from([None, "a", "a.2", "b"])


@given(st.dictionaries(st.integers(0, 4), VERSIONS, min_size=1), st.data())
def test_what_is_told_shows_every_needed_partition_and_names_the_others(
    recorded: dict[int, str | None], data: st.DataObject
) -> None:
    needed = data.draw(st.sets(st.sampled_from(sorted(recorded))))
    version, beside = told("a", recorded, needed)
    stale = {partition for partition, seen in recorded.items() if seen != version}
    assert stale == needed | beside
    assert not needed & beside


@given(st.dictionaries(st.integers(0, 4), st.just("b"), min_size=1))
def test_nothing_is_shown_where_nothing_is_needed_and_all_was_recorded_alike(recorded: dict[int, str | None]) -> None:
    assert told("a", recorded, set()) == ("b", set())


def test_a_webserver_shows_as_stale_what_the_plan_would_make(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.run()
    first, rng = dict(world.data), random.Random(5)
    with webserver(world) as ask:
        assert world.planned() == shown(ask) == set()
        world.topics.append("Arts/Glass/Studio_Work/Goblets")
        world.write()
        planned = world.planned()
        assert {"topics", "task_list[retrieval]", "embedding_model", "release"} <= planned
        assert not {"junior_model", "senior_model", "revisor_model"} & planned
        assert shown(ask) == planned
        world.run(select="*task_list")
        assert shown(ask) == world.planned() != set()
        world.topics.pop(rng.randrange(20))
        world.data = first | {"revised_data": {**first["revised_data"], "readings": 2}}
        world.write()
        assert shown(ask) == world.planned()
        world.run()
        assert shown(ask) == world.planned() == set()
