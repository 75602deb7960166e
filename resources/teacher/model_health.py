"""Whether a model answers at all, and whether it stays the same model.

Belongs here: deciding when a run stops because of its server, and saying what to do. Not here: single requests that fail
(`endpoint.py`), and dialects (`known_dialects.py`).
"""

from __future__ import annotations

from collections import Counter

from resources.ledger.calls import TeacherAnswer, TeacherRequest, TeacherUnavailable
from resources.teacher.known_dialects import LOG, DialectBook
from speed_assets.domain.replies import CURES
from speed_assets.recipe import Recipe


class ModelHealth:
    """Counts the replies of each model until its first answer."""

    def __init__(self, recipe: Recipe, dialects: DialectBook) -> None:
        self._endpoint = recipe.teacher.endpoint
        self._calls = recipe.calls
        self._dialects = dialects
        self._answered: set[str] = set()  # models with at least one answer
        self._unanswered: Counter[tuple[str, str]] = Counter()  # by model and kind of reply, before the first answer

    def check_answer(self, request: TeacherRequest, answer: TeacherAnswer, has_cached: bool) -> None:
        """Count a reply, and stop the run where a model has answered nothing.

        Args:
            request: What was asked.
            answer: An answer, a refusal, or a reply without an answer.
            has_cached: Whether the ledger has answers of this stage: the model has worked before.

        Raises:
            TeacherUnavailable: The first `calls.stop_after` replies of one kind held no answer; the message says what to do.
        """
        model = request.model
        if answer.kind == "not_read":
            raise TeacherUnavailable(answer.error or CURES["not_read"])
        if answer.error is None and not answer.without_answer:
            self._answered.add(model)
            return
        if model in self._answered or has_cached:
            return
        kind = answer.kind if answer.without_answer else "refused"
        self._unanswered[model, kind] += 1
        count = self._unanswered[model, kind]
        if count < self._calls.stop_after:
            return
        if kind != "refused":
            raise TeacherUnavailable(
                f"{model} at {self._endpoint} gave no answer in its first {count} replies ({kind}), which are paid for: "
                f"{CURES[kind]}"
            )
        forgotten = answer.refusal is not None and self._dialects.forget(model)
        more = "; the next run finds its dialect again" if forgotten else ""
        raise TeacherUnavailable(
            f"{model} at {self._endpoint} refused the first {count} requests and answered none, the last with "
            f"{answer.error}: {_field_refused(answer)}{more}"
        )

    def report_model_change(self, before: str, now: str) -> None:
        """Warn that the server reports another model within one artifact.

        Raises:
            TeacherUnavailable: `calls.model_changed` is `stop`.
        """
        words = f"{self._endpoint} answers as {now}, and answered as {before} before, for one artifact"
        if self._calls.model_changed == "stop":
            raise TeacherUnavailable(
                f"{words}: name a fixed version in teacher.model, or set calls.model_changed to warn; what is answered is kept"
            )
        LOG.warning("%s (calls.model_changed)", words)


def _field_refused(answer: TeacherAnswer) -> str:
    """The field of the recipe that a refusal is about."""
    if answer.refusal is None:
        return CURES["filtered"]
    text = answer.refusal.text
    for word, field_name in (
        *((name, f"teacher.dialect.{name}") for name in ("temperature", "top_p", "seed")),
        ("max_tokens", "teacher.dialect.token_field"),
        ("max_completion_tokens", "teacher.dialect.token_field"),
        *((word, "teacher.structured_output") for word in ("response_format", "schema", "tool", "grammar")),
        ("context", "the prompts, or the context of the server"),
        ("model", "teacher.model"),
    ):
        if word in text:
            return f"see {field_name}"
    return "see teacher.dialect, or name another teacher.model"
