"""What is printed, written to cards, handed to workers and left on disk: escaped, masked, private; and how commands end.

Belongs here: sinks and exit statuses. Not here: what readers refuse (the other files of this folder).
"""

from __future__ import annotations

import ast
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from resources.compute.runner import worker_environment
from resources.progress import ProgressLines
from resources.redaction import masked, masked_values, redacted
from resources.releases.cards import model_card
from resources.store.home import prepare_home, speed_home
from resources.store.store import Store, StoreError
from speed_assets.cli import main
from speed_assets.cli.output import fail, note, out, show_json, table
from speed_assets.domain.escaping import for_markdown, for_markdown_code, for_terminal

PROJECT = Path(__file__).resolve().parents[2]
ESCAPES = (
    "\x1b[31mred", "\x1b]0;title\x07", "\x9b31m", "a\rb", "a\x08b", "\x00", "\x7f", "\u202eabc", "\u2028", "\ud800", "\x1bc",
    "\x1b]52;c;AAAA\x07", "\u200b", "\ufeff",
)  # fmt: skip
MARKUP = (
    "![x](http://host/p.png)", "[x](javascript:alert(1))", "<script>alert(1)</script>", "<img src=x onerror=y>",
    "https://host/x", "www.host.example", "a|b", "`code`", "# title\n## more", "---\nlicense: mit\n---", "[x]: http://host",
    "<http://host>", "&#91;", "a@host.example", "**bold**", "~~gone~~",
)  # fmt: skip
LIVE = ("](", "<script", "<img", "https://", "http://", "www.", "`", "\n#", "\n---", "|", "**", "a@h", "~~")
"""What makes links, images, HTML, tables or headings in Markdown."""


@pytest.mark.parametrize("text", ESCAPES, ids=ascii)
def test_no_control_character_reaches_a_terminal(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    out(text)
    note(text)
    fail(text)
    show_json({"text": text})
    for line in table(["name", "n"], [[text, "1"]]):
        out(line)
    lines = ProgressLines(sys.stderr, every=0)
    lines.print_line(text)
    lines(text)(1, 2, text)
    shown = capsys.readouterr()
    printed = shown.out + shown.err
    assert all(character.isprintable() or character == "\n" for character in printed)


@pytest.mark.parametrize("text", MARKUP)
def test_markdown_displays_text_as_it_is(text: str) -> None:
    escaped = for_markdown(text)
    assert not [part for part in LIVE if part in escaped]
    assert not escaped.startswith(("#", "---", "<"))
    assert "`" not in for_markdown_code(text)


def test_cards_go_through_the_escape() -> None:
    """Every f-string and call of the module that makes cards; `html.escape` alone leaves images and links."""
    source = Path(model_card.__code__.co_filename).read_text()
    assert "html.escape" not in source
    assert "for_markdown(recipe.description)" in source


def test_commands_print_through_the_escape() -> None:
    for file in (PROJECT / "speed_assets" / "cli").glob("*.py"):
        calls = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)]
        direct = [call.lineno for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"]
        assert not direct or file.name in ("output.py", "app.py"), f"{file.name}: {direct}"


@pytest.mark.parametrize(
    "name",
    ["OPENROUTER", "MYTEACHER", "OPENAI_APIKEY", "OPENAI_API_KEY", "OPENAI_API_KEY_2", "GITHUB_PAT", "AWS_SECRET_ACCESS_KEY",
     "AWS_SESSION_TOKEN", "DATABASE_URL", "PGPASSWORD", "SLACK_WEBHOOK", "SPEED_API_KEY", "SSH_AUTH_SOCK", "ANYTHING",
     "VLLM_API_KEY"],
)  # fmt: skip
def test_workers_get_variables_of_a_list_alone(name: str) -> None:
    assert worker_environment({name: "sk-PLANTED", "PATH": "/bin"}) == {"PATH": "/bin"}


@pytest.mark.parametrize(
    "name",
    ["PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "PYTHONPATH", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "HF_HOME", "HF_TOKEN",
     "HF_HUB_OFFLINE", "VLLM_TARGET_DEVICE", "RAY_ADDRESS", "https_proxy", "SPEED_HOME", "TOKENIZERS_PARALLELISM", "LD_LIBRARY_PATH"],
)  # fmt: skip
def test_workers_get_what_they_need(name: str) -> None:
    assert worker_environment({name: "x"}) == {name: "x"}


def test_users_add_variables_but_no_secrets() -> None:
    given = {"SPEED_WORKER_VARIABLES": "MINE, OTHER_API_KEY", "MINE": "1", "OTHER_API_KEY": "sk"}
    assert "MINE" in worker_environment(given)
    assert "OTHER_API_KEY" not in worker_environment(given)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "Basic", "Token", "ApiKey", "Api-Key", "Key"])
def test_a_key_is_masked_without_the_scheme_of_its_header(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    """A recipe's `teacher.dialect.headers` name variables such as `Bearer sk-...`; a server repeats what follows."""
    monkeypatch.setenv("MY_GATEWAY_TOKEN", f"{scheme} sk-PLANTED-IN-TEST")
    for text in ("sk-PLANTED-IN-TEST", f"{scheme} sk-PLANTED-IN-TEST", "a sk-PLANTED-IN-TEST."):
        assert "PLANTED" not in masked(text)
        assert "PLANTED" not in redacted(text)
        assert "PLANTED" not in str(masked_values({text: [text]}))
    assert worker_environment({"PYTHON_ARGS": "x", "MY_GATEWAY_TOKEN": "y"}) == {"PYTHON_ARGS": "x"}


@pytest.mark.parametrize("umask", [0o000, 0o002, 0o022])
def test_a_home_is_private_under_any_umask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, umask: int) -> None:
    monkeypatch.setenv("SPEED_HOME", str(tmp_path / "home"))
    before = os.umask(umask)
    try:
        assert main(["ledger"]) == 0
        assert os.umask(umask) == umask, "the caller's umask is restored"
    finally:
        os.umask(before)
    for path in [tmp_path / "home", *(tmp_path / "home").rglob("*")]:
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path


def test_an_open_home_is_closed(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir(mode=0o755)
    (tmp_path / "home").chmod(0o755)
    prepare_home(tmp_path / "home")
    for folder in ("", "artifacts", "work", "releases", "dagster"):
        assert stat.S_IMODE((tmp_path / "home" / folder).stat().st_mode) == 0o700
    assert Store(tmp_path / "home").open()


def test_a_tilde_in_speed_home_is_the_home_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPEED_HOME", "~/x")
    assert speed_home() == Path.home().resolve() / "x"


@pytest.mark.parametrize(
    "arguments",
    [["ui", "--port", port] for port in ("99999", "0", "-1", "x", "1" * 30)]
    + [["quarantine", "--limit", number] for number in ("9" * 20, "-1", "x", "1" * 6_000)]
    + [["study", "--seeds", number] for number in ("-1", "x", "9" * 30)]
    + [["show", "\x1b[31m"], ["explain", "\x1b[31m"], ["quarantine", "--task-type", "\x1b[31m"], ["plan", "--recipe", "\x1b[31m"]]
    + [["plan", "--recipe", "x" * 5_000], ["plan", "--recipe", "\udcff.yaml"], ["plan", "--topics", "x" * 5_000]]
    + [["plan", "--topics", "\udcff"], ["plan", "--topics", "/dev/null"], ["verify", "/etc"], ["verify", "\udcff"], ["rollback", ""]]
    + [["diff", "a", "b"], ["push", "x", "--to", "\x1b[31m"], ["ledger", "show", "\x1b[31m"], ["nonsense"], ["run", "--nonsense"]],
    ids=lambda arguments: ascii(" ".join(arguments))[:40],
)  # fmt: skip
def test_bad_arguments_end_in_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    monkeypatch.setenv("SPEED_HOME", str(tmp_path / "home"))
    started = time.process_time()
    assert main(arguments) in (1, 2)
    shown = capsys.readouterr().err
    assert "Traceback" not in shown
    assert "this is a bug" not in shown
    assert "error: " in shown
    assert all(character.isprintable() or character == "\n" for character in shown)
    assert len(shown) < 8_000
    assert time.process_time() - started < 5, "seconds of CPU"


def test_a_port_is_bound_before_the_server_starts(tmp_path: Path) -> None:
    from speed_assets.orchestration.ui_server import serve

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(StoreError, match="in use"):
            serve(taken.getsockname()[1], print)


def test_helpers_of_dagsters_logs_get_no_interrupt(tmp_path: Path) -> None:
    """They end when Dagster ends them; `watch_orphans.py` would die of a Ctrl-C with a traceback."""
    from dagster._core.execution import compute_logs

    from resources.instance.log_helpers import shield_log_helpers

    shield_log_helpers()
    mirror = compute_logs.execute_posix_tail
    shield_log_helpers()
    assert compute_logs.execute_posix_tail is mirror, "once"
    (tmp_path / "log").write_text("a line\n")
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    with compute_logs.execute_posix_tail(str(tmp_path / "log"), sys.stderr) as helpers:
        for helper in helpers:
            os.kill(helper, signal.SIGINT)
        time.sleep(0.3)
        states = [Path(f"/proc/{helper}/stat").read_text().rpartition(")")[2].split()[0] for helper in helpers]
        assert not {"Z", "X"} & {*states}, "they live"
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == blocked
    for helper in helpers:
        with pytest.raises(ProcessLookupError):
            os.kill(helper, 0)


def test_a_bug_of_ours_names_a_log_and_masks_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SPEED_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OPENAI_API_KEY", "sk-PLANTED-IN-TEST")

    def broken(*_arguments: object) -> None:
        raise KeyError("\x1b[31m sk-PLANTED-IN-TEST")

    monkeypatch.setattr("resources.ledger.accounts.ledger_sizes", broken)
    assert main(["ledger"]) == 1
    shown = capsys.readouterr().err
    assert shown.startswith("error: this is a bug: KeyError")
    assert "Traceback" not in shown
    (log,) = (tmp_path / "home" / "logs").iterdir()
    assert str(log) in shown
    assert "Traceback" in log.read_text()
    assert "PLANTED" not in log.read_text() + shown


def _command(code: str, home: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "SPEED_HOME": str(home), "PYTHONPATH": str(PROJECT)}
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def test_a_closed_pipe_is_quiet(tmp_path: Path) -> None:
    code = "import sys; from speed_assets.cli import main; sys.exit(main(['schema']) or main(['schema']))"
    process = _command(code, tmp_path)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert "Traceback" not in (errors := process.stderr.read()), errors
    process.stderr.close()
    process.wait(60)


@pytest.mark.parametrize("closed", [">&-", "<&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams_get_nothing_else(tmp_path: Path, closed: str) -> None:
    """A file that is opened later would get the number of a closed stream, and what is printed there."""
    code = "import sys; from speed_assets.cli import main; sys.exit(main(['ledger']))"
    done = subprocess.run(
        ["/bin/bash", "-c", f'exec "$0" -c "$1" {closed}', sys.executable, code],
        env={**os.environ, "SPEED_HOME": str(tmp_path / "home"), "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert not list((tmp_path / "home").glob("logs/*"))
    assert (tmp_path / "home" / "ledger.sqlite").read_bytes()[:15] == b"SQLite format 3"


def test_ctrl_c_is_quiet(tmp_path: Path) -> None:
    code = (
        "import sys, time; from speed_assets.cli import main; import resources.ledger.accounts as a;"
        "a.ledger_sizes = lambda _ledger: (print('ready', flush=True), time.sleep(60)); sys.exit(main(['ledger']))"
    )
    process = _command(code, tmp_path / "home")
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.count("\n") == 1
    assert errors.startswith("interrupted: ")


@pytest.mark.parametrize("value", ["", "x", None, 5, [], "é"], ids=ascii)
def test_any_value_can_be_escaped(value: object) -> None:
    assert for_terminal(value).isprintable()
    assert for_markdown(value) is not None
