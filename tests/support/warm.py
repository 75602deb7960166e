"""Runs that share their warm worker processes: importing the libraries costs a run of the small recipe some ten seconds.

Belongs here: that sharing. Not here: tests of the processes themselves, which start their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from resources.compute.runner import Runner
from speed_assets.orchestration import runs
from tests.support.tiny import tiny_recipe


@contextmanager
def shared_runner(folder: Path) -> Iterator[Runner]:
    """Within it, `runs.run` uses one runner, whose logs are below `folder`."""
    runtime = tiny_recipe().runtime
    runner = Runner(folder, runtime.threads, runtime.warm_start)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(runs, "run", partial(runs.run, runner=runner))
            yield runner
    finally:
        runner.close()
