"""A teacher that answers as a test says, and the small recipe with full prompts for it."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from resources.ledger.calls import Allowance, AnswerSink, TeacherAnswer, TeacherRequest
from speed_assets.recipe import RECIPES, Recipe, parse_recipe
from tests.support.tiny import set_paths, tiny_data

Answer = Callable[[TeacherRequest], TeacherAnswer | str | list[str]]
TOPICS = ("Arts/Music/Violins", "Health/Sleep", "Business/Trade/Customs", "Science/Birds/Owls")


class Scripted:
    """A teacher that answers by a function of the request."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.asked: list[TeacherRequest] = []

    def answer(self, requests: Sequence[TeacherRequest], sink: AnswerSink, allowance: Allowance) -> None:
        allowance.reserve(requests)
        answers = []
        for request in requests:
            reply = self._answer(request)
            text = reply if isinstance(reply, TeacherAnswer) else reply if isinstance(reply, str) else json.dumps(reply)
            answers.append((request, text if isinstance(text, TeacherAnswer) else TeacherAnswer(text, 3, 3)))
        self.asked += requests
        sink(answers)


def full_recipe(folder: Path, topics: Sequence[str] = TOPICS, **changes: Any) -> Recipe:
    """The tiny recipe with full prompts and a teacher at an endpoint that nobody calls."""
    (folder / "topics.txt").write_text("\n".join(topics))
    data = copy.deepcopy(tiny_data())
    data["prompts"] = {"set": "full"}
    data["teacher"] = {"engine": "openai", "model": "m", "endpoint": "http://127.0.0.1:1/v1"}
    data["money"] = {}
    data["topics"] = {"file": str(folder / "topics.txt"), "at_least": 1}
    data["final_triplets"]["source"] = "revised_data"
    set_paths(data, changes)
    return parse_recipe(data, RECIPES / "tiny.yaml")
