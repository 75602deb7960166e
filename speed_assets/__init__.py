"""SPEED: synthesizing embedding data at scale, as a graph of Dagster assets.

A large teacher model writes a few examples; small models are aligned on them, write the training data and revise it; filters
and gates decide which rows and which embedding model are released.

    import speed_assets as speed

    recipe = speed.load_recipe("offline")
    planned = speed.plan(recipe, home)
    report = speed.run(recipe, home)

Belongs here: the names that other programs may rely on, imported when they are first used. Not here: anything else.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from speed_assets.build import build_defs
    from speed_assets.component import SpeedLoop
    from speed_assets.errors import SpeedError
    from speed_assets.front_door import compare, contamination, near_duplicates, open_release
    from speed_assets.orchestration.plan import plan
    from speed_assets.orchestration.rehearse import rehearse
    from speed_assets.orchestration.runs import run
    from speed_assets.orchestration.study import study
    from speed_assets.recipe import load_recipe

    __version__: str

__all__ = [
    "SpeedError",
    "SpeedLoop",
    "__version__",
    "build_defs",
    "compare",
    "contamination",
    "load_recipe",
    "near_duplicates",
    "open_release",
    "plan",
    "rehearse",
    "run",
    "study",
]

_MODULES = {
    "SpeedError": "speed_assets.errors",
    "SpeedLoop": "speed_assets.component",
    "build_defs": "speed_assets.build",
    "compare": "speed_assets.front_door",
    "contamination": "speed_assets.front_door",
    "load_recipe": "speed_assets.recipe",
    "near_duplicates": "speed_assets.front_door",
    "open_release": "speed_assets.front_door",
    "plan": "speed_assets.orchestration.plan",
    "rehearse": "speed_assets.orchestration.rehearse",
    "run": "speed_assets.orchestration.runs",
    "study": "speed_assets.orchestration.study",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name == "__version__":
        from importlib.metadata import version

        return version("speed-assets")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
