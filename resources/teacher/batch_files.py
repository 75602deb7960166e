"""The JSON lines of batch files, as OpenAI's Batches API and vLLM's `run-batch` read and write them.

Belongs here: one line a request, one line an answer. Not here: sending and collecting files (`batches.py`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping

from resources.ledger.calls import TeacherRequest
from resources.teacher.chat import CHAT_PATH, Outcome, Secret, read_reply, redact_and_shorten
from speed_assets.recipe import Teacher


def requests_jsonl(requests: Iterable[TeacherRequest]) -> Iterator[str]:
    """One line for each request, named by its key."""
    for request in requests:
        line = {"custom_id": request.key, "method": "POST", "url": f"/v1{CHAT_PATH}", "body": request.body()}
        yield json.dumps(line) + "\n"


def answers_from_jsonl(
    lines: Iterable[bytes],
    teacher: Teacher,
    key: Secret,
    requests: Mapping[str, TeacherRequest] | None = None,
    read_min: float | None = None,
    line_max: int | None = None,
) -> Iterator[tuple[str, Outcome]]:
    """Outcomes in an output or error file. Lines that cannot be read, or that are too long, are left out.

    Args:
        lines: The lines of the file.
        teacher: The recipe's section, for messages.
        key: Secrets to redact.
        requests: The requests that were sent, by key, as far as they are at hand.
        read_min: See `read_reply`.
        line_max: Longest line in bytes; None is no limit.

    Yields:
        (request key, outcome) of each line.
    """
    for line in lines:
        if line_max is not None and len(line) > line_max:
            continue
        try:
            entry = json.loads(line)
            name, response, error = entry["custom_id"], entry.get("response") or {}, entry.get("error") or {}
            status = response.get("status_code")
        except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
            continue
        if not isinstance(name, str):
            continue
        if isinstance(status, int):
            asked = (requests or {}).get(name)
            yield name, read_reply(status, response.get("body") or error, teacher, key, asked, read_min=read_min)
        else:  # never executed: the batch expired or was cancelled before
            yield name, Outcome("again", redact_and_shorten(json.dumps(error), key))
