"""An asset of the project's own, downstream of a release."""

import os
from pathlib import Path

import dagster as dg

import speed_assets as speed


@dg.asset(deps=[dg.AssetKey(["loop_a", "release"])])
def exported() -> dg.MaterializeResult:
    """Where the current model of `loop_a` is; a real project would hand it to its search service here."""
    home = Path(os.environ.get("SPEED_HOME", ".speed"))
    release = speed.open_release(home / "releases" / "current" / "loop_a")
    return dg.MaterializeResult(metadata={"model": dg.MetadataValue.path(release.path / "model")})
