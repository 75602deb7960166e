"""A teacher that sends nothing, and a temporary store: with them a plan runs the stages that ask the teacher.

Belongs here: counting the calls that a stage would make. Not here: which stages are made so (`plan.py`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from typing_extensions import override

from resources.ledger.accounts import cost_of_answers
from resources.ledger.calls import CallContext, TeacherAnswer, TeacherRequest
from resources.ledger.ledger import Ledger
from resources.progress import Progress
from resources.store.store import Artifact, ArtifactManifest, Store
from resources.teacher.known_dialects import DialectBook
from resources.teacher.teacher import Teacher
from resources.teacher.teacher_use import TeacherUse
from speed_assets.assets.tasks import UNWRITTEN
from speed_assets.recipe import Recipe


@dataclass
class RequiredCalls:
    """The calls of one stage: requests that are new, and how many the ledger has answers for (cache hits)."""

    new: list[TeacherRequest] = field(default_factory=list)
    cached: int = 0


class DryTeacher(Teacher):
    """A teacher that sends nothing: answers from the ledger, and a placeholder for each answer that it lacks."""

    def __init__(self, recipe: Recipe, ledger: Ledger, dialects: DialectBook | None = None) -> None:
        super().__init__(recipe, ledger, dialects=dialects)
        self.required = RequiredCalls()

    @override
    def ask(
        self, context: CallContext, requests: Sequence[TeacherRequest], progress: Progress | None = None
    ) -> tuple[list[TeacherAnswer], TeacherUse]:
        """The ledger's answers, and placeholders for the others.

        A brainstorm without an answer gives tasks that no prompt has had yet, so every call that is made from them is new. An
        expansion without an answer gives as many subtopics as were asked for, so later calls are counted at most.
        """
        cached = self.answers_in_ledger(requests)
        new = {request.key: request for request in requests if request.key not in cached}
        # A stage may ask twice.
        self.required = RequiredCalls([*self.required.new, *new.values()], self.required.cached + len(cached))
        count = self._recipe.task_list.per_topic
        if context.stage == "topic_tree" and self._recipe.topics.expand:
            count = self._recipe.topics.expand.children
        for key in new:
            tasks = [f"{UNWRITTEN}{key[:16]}x{number}" for number in range(count)]  # no two alike in any word
            # An error and no empty text: an empty text would be asked for again, and the plan counts first attempts.
            cached[key] = (
                TeacherAnswer(json.dumps(tasks))
                if context.stage in ("topic_tree", "task_list")
                else TeacherAnswer("", error="not asked yet")
            )
        nothing = cost_of_answers(self._ledger, [])
        return [cached[request.key] for request in requests], TeacherUse(0, 0, 0, nothing, nothing)


class OverlayStore(Store):
    """A temporary store that also sees the artifacts of the real one."""

    def __init__(self, home: Path, real: Store) -> None:
        super().__init__(home)
        self._real = real

    @override
    def fetch(self, asset: str, fingerprint: str) -> Artifact | None:
        return self._real.fetch(asset, fingerprint) or super().fetch(asset, fingerprint)

    @override
    def peek(self, asset: str, fingerprint: str) -> ArtifactManifest | None:
        return self._real.peek(asset, fingerprint) or super().fetch(asset, fingerprint)

    @override
    def load_text(self, name: str) -> str | None:
        return self._real.load_text(name)

    def mark_provisional(self, artifact: Artifact) -> None:
        """Give it a digest that no artifact has: its content is a placeholder, so nothing made from it exists yet."""
        self._verified[artifact.fingerprint] = replace(artifact, digest=f"provisional:{artifact.fingerprint}")
