"""`dg dev` with a web server that checks the requests' hosts: `python -m speed_assets.orchestration.ui_services`.

Belongs here: putting our web server in the place of Dagster's. Not here: the check (`ui_webserver.py`).
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from click.exceptions import Abort
from dagster._cli import dev
from dagster_dg_cli.cli.dev import dev_command

WEBSERVER = "speed_assets.orchestration.ui_webserver"
_start = dev.open_ipc_subprocess  # type: ignore[attr-defined]


def _start_guarded(parts: Sequence[str], **options: Any) -> Any:
    """Start a service of `dg dev`, the web server as ours."""
    return _start([WEBSERVER if part == "dagster_webserver" else part for part in parts], **options)


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a line of the log is not that this project's own `dagster.yaml`, which each home has a copy of, is not used."""
    return not record.getMessage().startswith("Found a dagster instance configuration value")


def main() -> None:
    """Serve until interrupted, with the arguments of `dg dev`."""
    logging.getLogger("dagster").addFilter(_is_news)
    dev.open_ipc_subprocess = _start_guarded  # type: ignore[attr-defined]
    with suppress(Abort):  # Ctrl-C: `speed ui` says that it has ended
        dev_command.main(sys.argv[1:], prog_name="speed ui", standalone_mode=False)


if __name__ == "__main__":
    main()
