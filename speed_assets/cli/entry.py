"""Running one command line: signals, errors and exit statuses.

Belongs here: what is the same for every command. Not here: the commands (`app.py`).
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

import typer
from typer.exceptions import TyperException

from speed_assets.cli.app import app
from speed_assets.errors import SpeedError

FAILED, BAD_INPUT, INTERRUPTED, TERMINATED = 1, 2, 130, 143


def run_command(arguments: Sequence[str] | None) -> int:
    """Run a command line and return its exit status."""
    command = typer.main.get_command(app)
    with _terminate_as_interrupt() as terminated:
        try:
            status = command.main(
                None if arguments is None else list(arguments), prog_name="speed", standalone_mode=False
            )
        except TyperException as error:
            return _usage_error(error)
        except SystemExit as ended:  # the reader of a pipe, such as `head`, has closed it
            return ended.code if isinstance(ended.code, int) else FAILED
        except SpeedError as error:
            return _print_error(error)
        except Exception as error:
            return _storage_error(error)
    if status == INTERRUPTED:
        print("interrupted: what is finished is kept, the next run resumes from here", file=sys.stderr)
        return TERMINATED if terminated else INTERRUPTED
    return int(status or 0)


@contextmanager
def _terminate_as_interrupt() -> Iterator[list[int]]:
    """Raise KeyboardInterrupt on SIGTERM, and restore the handler afterwards; yields the signals that came."""
    received: list[int] = []

    def interrupt(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # only the main thread may set handlers
        yield received
        return
    try:
        yield received
    finally:
        signal.signal(signal.SIGTERM, before)


def _usage_error(error: TyperException) -> int:
    message = error.format_message().replace("Value error, ", "").replace("Input should be", "it has to be")
    print(f"error: {message[:1].lower()}{message[1:]}", file=sys.stderr)
    context = getattr(error, "ctx", None)
    if context is not None:
        print(f"`{context.command_path} --help` lists what there is", file=sys.stderr)
    return error.exit_code


def _print_error(error: Exception) -> int:
    print(f"error: {error}", file=sys.stderr)
    return BAD_INPUT


def _storage_error(error: Exception) -> int:
    """Explain an error of a full, read-only or broken disk; raise any other."""
    from resources.store import storage_errors
    from resources.store.home import speed_home

    try:
        with storage_errors.explain_storage_errors(speed_home()):
            raise error
    except SpeedError as explained:
        return _print_error(explained)
