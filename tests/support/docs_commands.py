"""The commands that the docs show, and where each is run: a test, or the reason why none runs it.

Belongs here: reading commands out of pages, and the table. Not here: assertions (`tests/test_docs_commands.py`).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from speed_assets.recipe import PROJECT

SHELL = ("", "sh", "bash", "console")
"""Languages of fenced blocks that hold commands; a block without one may hold output."""
PROGRAMS = ("bash", "cd", "cp", "curl", "dagster", "dagster-daemon", "dagster-webserver", "dg", "docker", "export", "git", "hf", "kubectl",
            "make", "mkdir", "nvidia-smi", "pip", "python", "python3.11", "ray", "set", "source", "speed", "uv")  # fmt: skip
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`([^`\n]+(?:\n[^`\n]+)?)`")
_ASSIGNMENT = re.compile(r"[A-Z_]+=\S*")


@dataclass(frozen=True)
class Command:
    """A command in a page. `shown` is a line of a block, to be typed as it is; others are named in a sentence."""

    page: Path
    words: tuple[str, ...]
    shown: bool

    @property
    def text(self) -> str:
        return " ".join(self.words)


def pages() -> list[Path]:
    """What a user reads. The pages of docs/reference are made from the code and have tests of their own."""
    folders = (
        "docs",
        "docs/architecture",
        "deploy/multi-gpu",
        "deploy/kuberay",
        "examples",
        "examples/dagster_project",
    )
    top = [PROJECT / name for name in ("README.md", "CONTRIBUTING.md", "RELEASING.md", "SECURITY.md")]
    return [*top, *(page for folder in folders for page in sorted((PROJECT / folder).glob("*.md")))]


def commands(page: Path) -> Iterator[Command]:
    """The commands of a page in order, each without assignments before it and the folder of its program."""
    text = page.read_text(encoding="utf-8")
    for language, body in _BLOCK.findall(text):
        if language in SHELL:
            for line in re.sub(r"\\\n\s*", " ", body).splitlines():
                yield from _commands_of(line, page, shown=True)
    for code in _INLINE.findall(_BLOCK.sub("", text)):
        yield from _commands_of(code, page, shown=False)


def _commands_of(line: str, page: Path, *, shown: bool) -> Iterator[Command]:
    line = re.sub(r"\s+#.*$", "", line.removeprefix("$ ")).rstrip(" &")
    for part in re.split(r"\s*(?:&&|;)\s*", line):
        try:
            words = shlex.split(part)
        except ValueError:
            continue
        while len(words) > 1 and _ASSIGNMENT.fullmatch(words[0]):
            words = words[1:]
        program = words[0].rpartition("/")[2] if words else ""
        if program in PROGRAMS and (shown or len(words) > 1):
            yield Command(page, (program, *words[1:]), shown)


RUN_BY = {
    "bash .ci/run": "this is what runs the tests",
    "dg check defs": "tests/test_component.py",
    "dg scaffold defs": "tests/test_component.py",
    "make .venv/ready": "`.ci/run`",
    "make docs": "`.ci/run`",
    "make lint": "`.ci/run`",
    "make test": "`.ci/run`",
    "make test-faults": "`.ci/run`",
    "make test-vllm": "`.ci/run`",
    "python -m pip wheel": "tests/test_wheel.py",
    "python -m resources": "tests/test_packaged_models.py",
    "speed --version": "tests/test_cli_output.py",
    "speed check-served": "tests/test_using_releases.py",
    "speed cost": "tests/test_money.py",
    "speed data-docs": "tests/test_data_docs.py",
    "speed diff": "tests/test_cli.py",
    "speed doctor": "tests/test_doctor.py",
    "speed explain": "tests/test_cli_output.py",
    "speed forget": "tests/test_forget.py",
    "speed init": "tests/test_cli_output.py",
    "speed ledger": "tests/test_ledger.py",
    "speed plan": "tests/test_wheel.py",
    "speed push": "tests/test_cli.py",
    "speed quarantine": "tests/test_quarantine.py",
    "speed rehearse": "tests/test_rehearse.py",
    "speed releases": "tests/test_cli.py",
    "speed report": "tests/test_report.py",
    "speed rollback": "tests/test_cli.py",
    "speed run": "tests/test_wheel.py",
    "speed schema": "tests/test_cli_output.py",
    "speed search": "tests/test_using_releases.py",
    "speed serve": "tests/test_using_releases.py",
    "speed show": "tests/test_cli.py",
    "speed study": "tests/test_cli.py",
    "speed ui": "tests/support/ui.py",
    "speed verify": "tests/test_cli.py",
}
"""Beginning of a command: the test that runs it."""

NOT_RUN = {
    "cd": "changes a folder",
    "cp": "copies a file",
    "curl": "asks a server that the page starts",
    "dagster": "Dagster's own commands in a deployment; the files that they read are parsed by tests/test_deploy.py",
    "dagster-daemon": "a service of a deployment; tests/test_daemon.py runs the daemon of `speed ui`",
    "dagster-webserver": "a service of a deployment; tests/test_ui_server.py runs that of `speed ui`",
    "dg dev": "a server without an end; tests/test_ui_server.py runs `speed ui`, tests/test_component.py loads the same definitions",
    "dg list": "prints what tests/test_component.py loads",
    "docker": "no Docker on the machines of the tests; tests/test_deploy.py parses Dockerfile and compose.yaml",
    "export": "sets a variable",
    "git": "the reader's checkout",
    "hf": "logs in at a hub",
    "kubectl": "no cluster on the machines of the tests; tests/test_deploy.py parses the files",
    "make .venv/natural-ready": "installs weights from a registry; `make natural` needs it",
    "make .venv-vllm/ready": "`.ci/run` needs it for `make test-vllm`",
    "dg scaffold": "named without its arguments",
    "make base-model": "an hour of training",
    "make demo": "`speed run --recipe offline`, minutes: tests/test_loop.py runs the same graph on fewer rows, benchmarks.headline all",
    "make evaluate-minilm": "a benchmark: minutes, with data sets that are not in the repository",
    "make finetune-minilm": "a benchmark: minutes, with data sets that are not in the repository",
    "make format": "changes files; `make lint` checks the same",
    "make natural": "a benchmark of an hour; tests_vllm/ runs its parts",
    "make own-corpus": "a benchmark of half an hour; tests/test_corpus_loop.py runs the same recipe on tiny models",
    "make test-ui": "a browser and minutes; run before releases",
    "make ui": "a server without an end; tests/test_ui_server.py runs `speed ui`",
    "mkdir": "makes a folder",
    "nvidia-smi": "needs a GPU",
    "pip": "installs from a registry; tests/test_wheel.py installs the wheel without one",
    "python -c": "asks torch whether it sees a GPU",
    "python -m benchmarks": "a measurement, minutes to hours: docs/benchmarks.md has its figures; tests run small sizes of most",
    "python -m pytest": "runs tests",
    "python -m scripts": "writes files that tests compare (test_reference.py, test_house.py), or asks a registry (scripts.lock)",
    "python -m speed_assets": "processes that the product starts itself, in every test of a loop",
    "python -m venv": "makes an environment; tests/test_wheel.py makes one",
    "python -m vllm": "vLLM's own command, in a table of what was measured",
    "python3.11 -m venv": "makes an environment; tests/test_wheel.py makes one",
    "python examples": "tests/test_example_scripts.py runs every file",
    "ray": "Ray's own command on several machines; tests/test_cluster.py starts a Ray of its own",
    "set": "reads variables from a file",
    "source": "reads variables from a file",
    "speed --help": "the same text as `speed` alone, which tests/test_cli_output.py reads",
    "uv": "installs from a registry",
}
"""Beginning of a command: the reason why no test runs it."""


def entry_of(command: Command, table: dict[str, str]) -> str | None:
    """The longest key of a table with which a command begins, word by word; a module counts with its parents."""
    words = list(command.words)
    names = [" ".join(words[:size]) for size in range(min(len(words), 4), 0, -1)]
    if words[:2] == ["python", "-m"] and len(words) > 2:
        names.append(f"python -m {words[2].partition('.')[0]}")
    if words[0] == "python" and words[1].startswith("examples/"):
        names.append("python examples")
    return next((name for name in names if name in table), None)
