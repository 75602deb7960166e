"""Running one command line: signals, errors and exit statuses.

Belongs here: what is the same for every command. Not here: the commands (`app.py`).
"""

from __future__ import annotations

import io
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType

import typer
from typer.exceptions import TyperException

from speed_assets.cli.app import app
from speed_assets.cli.output import fail, note
from speed_assets.errors import SpeedError

FAILED, BAD_INPUT, INTERRUPTED, TERMINATED = 1, 2, 130, 143


def run_command(arguments: Sequence[str] | None) -> int:
    """Run a command line and return its exit status."""
    _open_closed_streams()
    command = typer.main.get_command(app)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files need not fit the locale
    with _private_files(), _terminate_as_interrupt() as terminated:
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
        except BrokenPipeError:
            _drop_output()
            return FAILED
        except Exception as error:
            return _unexpected_error(error)
    if status == INTERRUPTED:
        note("interrupted: what is finished is kept, the next run resumes from here")
        return TERMINATED if terminated else INTERRUPTED
    return int(status or 0)


def _open_closed_streams() -> None:
    """Send a standard stream that the caller has closed nowhere.

    The next file that is opened would get its number: a worker could then print into the ledger.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            nowhere = os.open(os.devnull, os.O_RDWR)
            os.dup2(nowhere, number)
            if nowhere != number:
                os.close(nowhere)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))


@contextmanager
def _terminate_as_interrupt() -> Iterator[list[int]]:
    """Raise KeyboardInterrupt on SIGTERM, and restore the handler afterwards; yields the SIGTERMs that came, known once it ends.

    Dagster puts handlers of its own in the place of this one while it runs, so a handler would miss most of them: Python writes the
    number of every signal into a socket.
    """
    received: list[int] = []

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # only the main thread may set handlers
        yield received
        return
    reader, writer = socket.socketpair()
    with reader, writer:
        reader.setblocking(False)
        writer.setblocking(False)
        woken = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        try:
            yield received
        finally:
            signal.set_wakeup_fd(woken)
            signal.signal(signal.SIGTERM, before)
            with suppress(BlockingIOError):
                received += [number for number in reader.recv(1024) if number == signal.SIGTERM]


@contextmanager
def _private_files() -> Iterator[None]:
    """Files and folders that a command makes are for their owner alone, whatever the umask."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


def _drop_output() -> None:
    """Send what is left in the buffers nowhere: the reader of the pipe is gone."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _usage_error(error: TyperException) -> int:
    message = _option_of_speed(error) or error.format_message()
    message = message.replace("Value error, ", "").replace("Input should be", "it has to be")
    fail(f"{message[:1].lower()}{message[1:]}")
    context = getattr(error, "ctx", None)
    if context is not None:
        note(f"`{context.command_path} --help` lists what there is")
    return error.exit_code


def _option_of_speed(error: TyperException) -> str | None:
    """Where to write an option of `speed` itself that stands behind a command, which has none of that name."""
    context, named = getattr(error, "ctx", None), getattr(error, "option_name", None)
    if context is None or context.parent is None or not hasattr(error, "possibilities"):
        return None
    root = context.find_root()
    for option in root.command.params:
        if named in option.opts:
            words = [root.command_path, named, *([] if option.is_flag else [option.metavar])]
            after = context.command_path.removeprefix(root.command_path).strip()
            return f"{named} goes before the command: `{' '.join([*words, *([] if option.is_eager else [after])])}`"
    return None


def _print_error(error: Exception) -> int:
    fail(str(error))
    return BAD_INPUT


def _unexpected_error(error: Exception) -> int:
    """Explain an error of a full, read-only or broken disk; write any other to a log, since it is a bug."""
    from resources.store import storage_errors
    from resources.store.home import speed_home

    try:
        with storage_errors.explain_storage_errors(speed_home()):
            raise error
    except SpeedError as explained:
        return _print_error(explained)
    except Exception as unexplained:
        fail(f"this is a bug: {type(unexplained).__name__}; please report it with the log file {_bug_log(unexplained)}")
        return FAILED


def _bug_log(error: Exception) -> str:
    """The file with the traceback of an error, keys redacted; the traceback itself where no file can be written."""
    from resources.redaction import redacted
    from resources.store.home import speed_home

    text = redacted("".join(traceback.format_exception(error)))
    file = speed_home() / "logs" / f"bug-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        file.write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError:
        return f"that follows\n{text}"
    return str(file)
