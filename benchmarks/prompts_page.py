"""One prompt of each kind and task type as models see it: `python -m benchmarks.prompts_page > docs/prompts.md`.

Belongs here: the page. Not here: any wording of prompts (`speed_assets/domain/prompt_sets/full.yaml`).
"""

from __future__ import annotations

import json

from speed_assets.domain.attributes import draw_attributes
from speed_assets.domain.prompts import PromptSet, relevance_prompt
from speed_assets.domain.row_languages import Drawn
from speed_assets.domain.task_types import TASK_TYPES, TOPIC_TYPES

TOPIC = "Arts/Music/String Instruments/Violins"
TASKS = {
    "classification": "Given a message to a violin maker, tell whether it asks for a repair, an appraisal or a lesson.",
    "retrieval": "Given a player's question about the care of a violin, retrieve advice that names the cause and the remedy.",
    "sts": "Arts > Music > String Instruments > Violins",
    "matching_short": "Match the name of a part of the violin with a phrase that says what it does.",
    "matching_long": "Given the description of a violin by its owner, match it with the report of an appraiser on it.",
}
SEED = 4
"""Seed of the drawn attributes (ours: with it all five task types have a level of education where they may)."""


def page() -> str:
    """The page as Markdown."""
    prompts = PromptSet.load("full")
    parts = [
        "# Prompts\n",
        "The prompts of the set `full` as models read them, one of each kind; `python -m benchmarks.prompts_page` writes this "
        "page. Attributes are drawn for each row; guidelines and examples are shuffled. In prompts of the judge and the revisor "
        "the constant part comes first and the drawn or written part last, so a server computes the common prefix once. `...` "
        "replaces texts that a model writes.\n",
        "## Subtopics of a topic (`expand`)\n",
        _block(prompts.expand("Arts/Music", 12, ["Oboes", "Sea Shanties"])),
        "## Whether passages answer a query (`relevance`)\n",
        _block(relevance_prompt(prompts, "how to store a violin in winter", "...", "...")),
    ]
    for task_type, kind in ((name, TASK_TYPES[name]) for name in TOPIC_TYPES):
        asked = prompts.synthesis(task_type, TASKS[task_type], draw_attributes(task_type, SEED))
        draft = json.dumps(dict.fromkeys(kind.keys, "..."))
        parts.append(f"## {task_type}\n")
        if kind.has_brainstorm:
            parts += ["### Brainstorm\n", _block(prompts.brainstorm(task_type, TOPIC, 1))]
        parts += [
            "### Synthesis\n",
            _block(asked),
            "### Judge\n",
            _block(_short(prompts.judge(task_type, TASKS[task_type], [draft, draft], asked), asked)),
            "### Revise\n",
            _block(_short(prompts.revise(task_type, TASKS[task_type], draft, asked), asked)),
        ]
    spoken = PromptSet.load("full", multilingual=True)
    attributes = draw_attributes("retrieval", SEED)
    parts += [
        "## With `languages`\n",
        "Prompts of a recipe that draws languages say them; here a German query over Japanese documents.\n",
        _block(spoken.synthesis("retrieval", TASKS["retrieval"], attributes, Drawn("de", "ja").names())),
    ]
    return "\n".join(parts).rstrip() + "\n"


def _short(prompt: str, asked: str) -> str:
    """The prompt without the whole of what it repeats."""
    return prompt.replace(asked.strip(), f"{asked.strip().splitlines()[0]}\n[... the complete synthesis prompt above]")


def _block(text: str) -> str:
    return f"```text\n{text.rstrip()}\n```\n"


if __name__ == "__main__":
    print(page(), end="")
