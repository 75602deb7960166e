"""Whether a recipe has enough topics that few rows share a prompt; checked before anything is sent.

Rows with the same prompt differ by sampling alone. Their number follows from the numbers of topics, tasks and rows and from
how attributes are drawn, so no text is needed to compute it.

Belongs here: counting a recipe's topics, and the warning. Not here: the arithmetic (`domain/attributes.py`,
`domain/topic_growth.py`).
"""

from __future__ import annotations

from typing import Any

from resources.inputs.prompt_files import prompts_of
from resources.inputs.topic_files import topic_file_bytes
from speed_assets.domain.attributes import rows_per_prompt, tasks_needed
from speed_assets.domain.task_types import TASK_TYPES, TOPIC_TYPES
from speed_assets.domain.topic_growth import expansion_calls
from speed_assets.domain.topics import TopicError, read_topics
from speed_assets.recipe import Recipe, RecipeError, Topics


def crowded_prompts(recipe: Recipe) -> list[dict[str, Any]]:
    """Stages and task types with more rows per prompt than `topics.rows_per_prompt_max`, the most crowded first.

    Returns:
        {stage, task_type, rows, topics, rows_per_prompt, topics_needed} of each; `topics.expand` counts with all topics that
        it asks for.
    """
    graph = recipe.graph()
    if recipe.given_names() and "topics" not in graph:
        return []  # nothing is written about any
    prompts, most = prompts_of(recipe), recipe.topics.rows_per_prompt_max
    topics = topic_counts(recipe.topics)
    found = []
    for task_type in TOPIC_TYPES:
        kind = TASK_TYPES[task_type]
        attributes = prompts.attributes_in_prompt(task_type)
        per_topic = recipe.task_list.per_topic if kind.has_brainstorm else 1
        for stage, rows in recipe.rows_wanted(task_type).items():
            count = topics[graph[stage].takes or "synthesis"]
            each = rows_per_prompt(task_type, attributes, count * per_topic, rows)
            if each > most:
                needed = -(-tasks_needed(task_type, attributes, rows, most) // per_topic)
                found.append(
                    {
                        "stage": stage,
                        "task_type": task_type,
                        "rows": rows,
                        "topics": count,
                        "rows_per_prompt": round(each, 1),
                        "topics_needed": needed,
                    }
                )
    return sorted(found, key=lambda place: -place["rows_per_prompt"])


def crowded_prompt_warnings(recipe: Recipe) -> list[str]:
    """One sentence for each stage and task type with too many rows of one prompt.

    Raises:
        RecipeError: There is one, and `topics.refuse` is set; or a topic file cannot be read.
    """
    places = crowded_prompts(recipe)
    lines = [
        f"{place['stage']}/{place['task_type']} asks for {place['rows']:,} rows on {place['topics']:,} topics: "
        f"{place['rows_per_prompt']:,} rows for each different prompt, more than {recipe.topics.rows_per_prompt_max:g} "
        f"(topics.rows_per_prompt_max); {place['topics_needed']:,} topics would do"
        for place in places
    ]
    if lines and recipe.topics.refuse:
        raise RecipeError(
            "too few topics, and topics.refuse is set:\n  "
            + "\n  ".join(lines)
            + "\nadd topics to topics.file, let the teacher grow them (topics.expand), or ask for fewer rows"
        )
    return lines


def topic_counts(section: Topics) -> dict[str, int]:
    """The most topics that rows are written about: {`synthesis`: number, `alignment`: number}. Raises RecipeError."""
    written = _read(section, "file", section.file)
    if section.limit is not None:
        written = min(written, section.limit)
    grown = written
    if section.expand is not None:
        expand = section.expand
        _, grown = expansion_calls(written, expand.children, expand.levels, expand.target, 1)
        grown = max(written, min(grown, expand.target))
    aligned = grown if section.alignment is None else _read(section, "alignment", section.alignment)
    return {"synthesis": grown, "alignment": aligned}


def _read(section: Topics, field: str, file: str) -> int:
    try:
        raw = topic_file_bytes(field, file)
        return len(read_topics(raw, max_levels=section.max_levels, max_characters=section.max_characters).topics)
    except TopicError as error:
        raise RecipeError(f"topics.{field} {file}: {error}") from None
