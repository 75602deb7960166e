"""Messages, values and tables without secrets, and which environment variables hold one.

Everything that is printed, logged or stored passes `masked` or one of its siblings where it leaves the process: `cli/output.py`
and `progress.py` (terminal), `Ledger.record`, `Store.seal` and `write_atomically` (artifacts, cards, texts of the home),
`StageRun.write` (tables), `assets/stage.py` (Dagster's events).

Hidden state of the process: the variables that a recipe marks as secret, and the secrets read last.

Belongs here: shortening and redacting messages, the variables that workers get. Not here: what to do about an error.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    import polars as pl

# Wide for redaction, which costs nothing; narrow for withholding a variable from workers, since they may need it.
_SECRET = re.compile(r"(KEY|SECRET|TOKEN|PASSWORD|CREDENTIAL|CONNECTION_STRING)", re.IGNORECASE)
_PASSWORD = re.compile(r"://[^/@:]*:([^@]+)@")
_HOLDS_SECRET = re.compile(
    r"(_KEY|APIKEY|_TOKEN|_SECRET|PASSWORD|PASSWD|CREDENTIALS?|CONNECTION_STRING|_PAT)(_?\d{1,3})?$", re.IGNORECASE
)
_SCHEME = re.compile(r"(?:Bearer|Basic|Token|ApiKey|Api-Key|Key)\s+(\S+)", re.IGNORECASE)
"""The value of a header that names how it authenticates; a server may repeat what follows alone."""
_LENGTH = 300
MASK = "***"
_LENGTH_MASKED = 8
"""Characters of the shortest value that is masked in data: shorter ones occur by chance (ours)."""
_WORD_LENGTH = 16
"""Shorter values of letters alone may be words of a row, so they stay in data (ours)."""
_TEXT_FILES = frozenset(
    (".json", ".jsonl", ".md", ".txt", ".log", ".html", ".csv", ".tsv", ".yaml", ".yml", ".svg", ".xml", "")
)
"""Endings of files that may hold text; tables are masked before they are written."""
_NAMED: set[str] = set()
"""Variables that a recipe marks as secret, whatever their names."""


def error_and_causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and its causes, at most 20, the latest first."""
    for _ in range(20):
        if error is None:
            return
        yield error
        error = error.__cause__ or error.__context__


def mark_secret_variables(*names: str | None) -> None:
    """Treat these environment variables as secret for the lifetime of the process; None is ignored."""
    _NAMED.update(filter(None, names))


def is_secret_variable(name: str, value: str) -> bool:
    """Whether an environment variable holds a secret: by its name, as a URL with a password, or because a recipe marks it."""
    named = {os.environ.get(variable) for variable in _NAMED}
    again = len(value) >= 8 and value in named  # the same secret under another name
    return bool(name in _NAMED or again or _HOLDS_SECRET.search(name) or _PASSWORD.search(value))


def redacted(text: str) -> str:
    """A text with the values of secret variables replaced by `***`."""
    for secret in _known().in_messages:
        text = text.replace(secret, MASK)
    return text


def redacted_message(error: BaseException) -> str:
    """The first line of an error's message, at most 300 characters, with the values of secret variables replaced by `***`."""
    return redacted((str(error).strip() or type(error).__name__).splitlines()[0])[:_LENGTH]


def secret_values() -> list[str]:
    """Values that no sink may hold, the longest first: of secret variables, and passwords in URLs.

    A value of fewer than 8 characters, or a word of fewer than 16 letters, also occurs by chance: masking it would change rows,
    and artifacts would depend on the environment. Messages about errors are stricter (`redacted`).
    """
    return list(_known().in_data)


def _without_scheme(values: Iterable[str]) -> set[str]:
    """What follows the scheme in values such as `Bearer sk-...`."""
    return {found[1] for value in values if (found := _SCHEME.fullmatch(value.strip()))}


def masked(text: str) -> str:
    """A text with every known secret replaced by `***`, also where JSON or an address has escaped it."""
    for secret in _known().in_texts:
        text = text.replace(secret, MASK)
    return text


def masked_values(value: Any) -> Any:
    """JSON values in which every text is masked, keys included; other values, and containers without a secret, as they are."""
    return _masked_values(value, secret_values())


def _masked_values(value: Any, secrets: list[str]) -> Any:
    if not secrets:
        return value
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, MASK)
        return value
    if isinstance(value, Mapping):
        return {_masked_values(key, secrets): _masked_values(item, secrets) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_masked_values(item, secrets) for item in value]
    return value


def masked_table(table: pl.DataFrame) -> pl.DataFrame:
    """A table in which the texts of every column, also of lists and structs, are masked; the same table where none holds a secret."""

    secrets = secret_values()
    if not secrets:
        return table
    changed = {name: found for name in table.columns if (found := _masked_column(table[name], secrets)) is not None}
    return table.with_columns(**changed) if changed else table


def _masked_column(column: pl.Series, secrets: list[str]) -> pl.Series | None:
    """The column without secrets; None where it holds none."""
    import polars as pl

    if column.dtype == pl.String:
        if not column.str.contains_any(secrets).any():
            return None
        return column.str.replace_many(secrets, [MASK] * len(secrets), leftmost=True)
    if not column.dtype.is_nested() or not any(s in column.to_frame().write_ndjson() for s in _as_written(secrets)):
        return None
    values = [_masked_values(value, secrets) for value in column.to_list()]
    return pl.Series(column.name, values, dtype=column.dtype)


def mask_files(folder: Path) -> None:
    """Mask what text files below a folder hold. A file without a secret is not touched."""
    secrets = [s.encode() for s in _as_written(secret_values())]
    if not secrets:
        return
    for file in folder.rglob("*"):
        if file.suffix.lower() not in _TEXT_FILES or file.is_symlink() or not file.is_file():
            continue
        content = file.read_bytes()
        if any(secret in content for secret in secrets):
            for secret in secrets:
                content = content.replace(secret, MASK.encode())
            file.write_bytes(content)


def _as_written(secrets: list[str]) -> list[str]:
    """The secrets as they are, and as JSON and addresses write them."""
    escaped = (json.dumps(secret, ensure_ascii=ascii_only)[1:-1] for secret in secrets for ascii_only in (True, False))
    quoted = (quote(secret, safe=safe, errors="replace") for secret in secrets for safe in ("", "/"))
    return sorted({*secrets, *escaped, *quoted}, key=lambda value: (-len(value), value))


@dataclass(frozen=True, slots=True)
class _Secrets:
    """What is redacted while the environment is as it was, the longest first."""

    environment: dict[Any, Any]
    named: frozenset[str]
    in_messages: list[str]
    in_data: list[str]
    in_texts: list[str]


_last: _Secrets | None = None


def _known() -> _Secrets:
    """The secrets of the environment, read again whenever a variable has changed: every answer is masked several times."""
    global _last
    # What `os.environ` keeps inside is compared in a microsecond; its own methods decode every variable.
    environment = getattr(os.environ, "_data", os.environ)
    last = _last
    if last is None or last.environment != environment or last.named != _NAMED:
        _last = last = _read_secrets(dict(environment), frozenset(_NAMED))
    return last


def _read_secrets(environment: dict[Any, Any], named: frozenset[str]) -> _Secrets:
    variables = {os.fsdecode(name): os.fsdecode(value) for name, value in environment.items()}
    passwords = {password for value in variables.values() for password in _PASSWORD.findall(value)}

    def found(pattern: re.Pattern[str]) -> set[str]:
        values = passwords | {value for name, value in variables.items() if name in named or pattern.search(name)}
        return values | _without_scheme(values)

    in_data = [
        value
        for value in found(_HOLDS_SECRET)
        if len(value) >= _LENGTH_MASKED and not (value.isalpha() and len(value) < _WORD_LENGTH)
    ]
    return _Secrets(
        environment,
        named,
        _as_written([value for value in found(_SECRET) if len(value) >= 4]),
        sorted(in_data, key=lambda value: (-len(value), value)),
        _as_written(in_data),
    )


@contextmanager
def masked_errors() -> Iterator[None]:
    """Mask the messages of an error, and of its causes, that leaves the block: Dagster stores them with their tracebacks.

    Raises:
        RuntimeError: In place of an error that still shows a secret when the values of its `args` are masked.
    """
    try:
        yield
    except Exception as error:
        secrets = secret_values()
        chain = list(error_and_causes(error))
        if not any(secret in str(one) for one in chain for secret in secrets):
            raise
        for one in chain:
            one.args = tuple(_masked_values(list(one.args), secrets))
            if isinstance(description := getattr(one, "description", None), str):
                one.description = masked(description)  # type: ignore[attr-defined] # dagster.Failure
        if any(secret in str(one) for one in chain for secret in secrets):
            raise RuntimeError(masked(f"{type(error).__name__}: {error}")) from None
        raise


_FOR_WORKERS = re.compile(
    # the system
    r"(?:PATH|HOME|USER|LOGNAME|SHELL|LANG|LANGUAGE|LC_\w+|TZ|TERM|TMPDIR|TEMP|TMP|HOSTNAME|KEYBOARD|XDG_\w+|VIRTUAL_ENV"
    r"|CONDA_PREFIX|LD_LIBRARY_PATH|LD_PRELOAD|LIBRARY_PATH|CPATH|CC|CXX|SSL_CERT_FILE|SSL_CERT_DIR|REQUESTS_CA_BUNDLE"
    r"|CURL_CA_BUNDLE|(?i:(?:http|https|all|no)_proxy)"
    # Python and libraries of numbers
    r"|(?:SPEED_|PYTHON|OMP_|GOMP_|KMP_|MKL_|OPENBLAS_|BLIS_|NUMEXPR_|MALLOC_|RAYON_|POLARS_)\w*"
    # GPUs, models, engines
    r"|(?:CUDA_|CUBLAS_|CUDNN_|NVIDIA_|NCCL_|GLOO_|HIP_|ROCR_|ROCM_|HSA_|TORCH_|TORCHINDUCTOR_|PYTORCH_|TRITON_|XFORMERS_)\w*"
    r"|(?:HF_|HUGGING_FACE_HUB_|HUGGINGFACE_|TRANSFORMERS_|TOKENIZERS_|DATASETS_|SENTENCE_TRANSFORMERS_|MTEB_)\w*"
    r"|(?:ACCELERATE_|VLLM_|FLASHINFER_|RAY_)\w*)"
)
"""Variables that workers need."""
MORE_VARIABLES = "SPEED_WORKER_VARIABLES"
"""Variable with the names of further variables that workers get, separated by commas."""


def is_worker_variable(name: str, more: frozenset[str] = frozenset()) -> bool:
    """Whether workers need a variable of this name: of the system, of the libraries they use, or one that the user lists."""
    return bool(_FOR_WORKERS.fullmatch(name)) or name in more
