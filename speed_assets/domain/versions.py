"""Code versions that make Dagster show what is stale.

Dagster keeps one code version for an asset, compares it with the one that each partition was recorded under, and looks one
step up the graph. What a run will make reaches further: whatever lies below something stale is made anew, too, unless its
input comes out the same. So an asset is told the version that its partitions are recorded under where nothing is to be
done, and another one where something is.

Belongs here: choosing that version. Not here: what has to be made (`plan.py`), or what Dagster has recorded (`runs.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import count
from typing import TypeVar

Partition = TypeVar("Partition")


def told(
    own: str, recorded: Mapping[Partition, str | None], needed: Collection[Partition]
) -> tuple[str, set[Partition]]:
    """The code version of an asset, and the partitions that look stale beside the `needed` ones although they are not.

    `recorded` has every partition of the asset and the version it was last recorded under, None when it never was; `own` is
    the version that code and recipe give. Every needed partition differs from the version that is returned.

    >>> told("1-a", {"x": "1-a", "y": "1-a"}, {})
    ('1-a', set())
    >>> told("1-a", {"x": "1-a", "y": "1-a"}, {"x"})
    ('1-a.2', {'y'})
    >>> told("1-a", {"x": None, "y": "1-a.2"}, {"x"})
    ('1-a.2', set())
    """
    fresh = {partition: version for partition, version in recorded.items() if partition not in needed}
    stale = {recorded[partition] for partition in needed} - {None}
    common = set(fresh.values())
    if len(common) == 1 and None not in common and not common & stale:
        version = common.pop()
        assert version is not None
        return version, set()
    taken = stale if not fresh else stale | common
    version = next(name for name in (own if n == 1 else f"{own}.{n}" for n in count(1)) if name not in taken)
    return version, set(fresh)
