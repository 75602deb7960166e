"""Error messages without secrets, and which environment variables hold one.

Hidden state of the process: the variables that a recipe marks as secret.

Belongs here: shortening and redacting messages, the variables that workers get. Not here: what to do about an error.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

# Wide for redaction, which costs nothing; narrow for withholding a variable from workers, since they may need it.
_SECRET = re.compile(r"(KEY|SECRET|TOKEN|PASSWORD|CREDENTIAL|CONNECTION_STRING)", re.IGNORECASE)
_PASSWORD = re.compile(r"://[^/@:]*:([^@]+)@")
_HOLDS_SECRET = re.compile(r"(_KEY|_TOKEN|_SECRET|PASSWORD|CREDENTIALS?|CONNECTION_STRING)$", re.IGNORECASE)
_LENGTH = 300
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
    secrets = {value for name, value in os.environ.items() if name in _NAMED or _SECRET.search(name)}
    secrets |= {password for value in os.environ.values() for password in _PASSWORD.findall(value)}
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= 4:
            text = text.replace(secret, "***")
    return text


def redacted_message(error: BaseException) -> str:
    """The first line of an error's message, at most 300 characters, with the values of secret variables replaced by `***`."""
    return redacted((str(error).strip() or type(error).__name__).splitlines()[0])[:_LENGTH]


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
