"""The `speed` command on a terminal: its entry point.

Belongs here: arguments, printing, exit statuses. Not here: deciding or computing anything (`speed_assets/orchestration`).
"""

from __future__ import annotations

from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: the command line without the program's name; None takes this process's.

    Returns:
        The exit status: 0 done; 1 a run failed or a release was refused; 2 bad input; 130 interrupted; 143 terminated.
    """
    from speed_assets.cli.entry import run_command  # imports what the shell's completion does not need to wait for

    return run_command(arguments)
