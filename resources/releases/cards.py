"""Cards of a release, written from its manifest and lineage.

Belongs here: the texts of model card and dataset card. Text from models is always escaped.
"""

from __future__ import annotations

import json
import re
from typing import Any

from speed_assets.domain.escaping import for_markdown, for_markdown_code
from speed_assets.domain.fingerprints import digest
from speed_assets.domain.language_names import LANGUAGE_NAMES
from speed_assets.domain.task_types import TASK_TYPE_NAMES
from speed_assets.recipe import IN_TOY_LANGUAGE, RecipeView, without_places

PAPER = "https://arxiv.org/abs/2410.18634"
CITATION = """@article{chen2024little,
  title   = {Little Giants: Synthesizing High-Quality Embedding Data at Scale},
  author  = {Chen, Haonan and Wang, Liang and Yang, Nan and Zhu, Yutao and Zhao, Ziliang and Wei, Furu and Dou, Zhicheng},
  journal = {arXiv preprint arXiv:2410.18634},
  year    = {2024}
}"""
MODEL_PLACE, DATA_PLACE = 'SentenceTransformer("model")', 'load_dataset("data", '
"""How the snippets open a release's folder; a push puts the repository's name in its place (`hub.py`)."""
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"), (10**7, "1M<n<10M"))
"""Size categories of hubs, by the rows that are below."""
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_TEXTS = '["how do I reset the pump"]', '["Hold the red button for five seconds.", "The pump weighs 4 kg."]'


def model_card(recipe: RecipeView, manifest: dict[str, Any]) -> str:
    """Markdown with the front matter that hubs read."""
    base = manifest["models"]["embedding_base"]
    front = {
        "library_name": "sentence-transformers",
        "pipeline_tag": "sentence-similarity",
        "tags": [
            "sentence-transformers",
            "feature-extraction",
            *_unless_given(manifest, "synthetic-data"),
            "speed",
            *_toy_tag(recipe),
        ],
        "language": _languages(recipe, manifest),
        **({"base_model": base} if base and _HUB_NAME.fullmatch(base) else {}),
        **_licence(manifest["licences"]["model"]),
        "model-index": [{"name": recipe.name, "results": _results(manifest)}],
    }
    return _card(
        front,
        *_toy_line(recipe),
        f"# {recipe.name}: embedding model",
        for_markdown(recipe.description),
        *_given_model(manifest),
        "```python\nfrom sentence_transformers import SentenceTransformer\n\n"
        f"model = {MODEL_PLACE}\nqueries = model.encode_query({_TEXTS[0]})\ndocuments = model.encode_document({_TEXTS[1]})\n"
        "print(model.similarity(queries, documents))\n```",
        "`encode_query` and `encode_document` put the prompts in front that the model was trained with.",
        "## Scores",
        _score_table(manifest),
        *_common(recipe, manifest),
    )


def dataset_card(recipe: RecipeView, manifest: dict[str, Any]) -> str:
    """Markdown whose front matter names one configuration per task type, so that `load_dataset(folder, name)` opens it."""
    present = [name for name in TASK_TYPE_NAMES if name in manifest["rows"]]
    # `datasets` keeps what it has read of a local folder by the folder's name and its configurations, whatever rows it holds: without
    # a text that differs, it reads one release's rows for those of another.
    triplets = manifest["artifacts"].get("final_triplets", {})
    rows = f"rows {digest([triplets.get('digest'), manifest['rows']])[:16]}"
    title = " ".join([f"{recipe.name}:", *_unless_given(manifest, "synthetic"), "training triplets"])
    front = {
        "pretty_name": title,
        "language": _languages(recipe, manifest),
        "task_categories": ["sentence-similarity", "feature-extraction"],
        **(
            {"multilinguality": ["multilingual"]}
            if len(_languages(recipe, manifest)) > 1 and "languages" in manifest
            else {}
        ),
        "size_categories": [size_category(sum(manifest["rows"].values()))],
        "tags": [*_unless_given(manifest, "synthetic"), "embedding", "triplets", "speed", *_toy_tag(recipe)],
        "configs": [
            {"config_name": name, "data_files": f"{name}/train.parquet", "description": rows} for name in present
        ],
        **_licence(manifest["licences"]["data"]),
    }
    return _card(
        front,
        *_toy_line(recipe),
        f"# {title}",
        for_markdown(recipe.description),
        "```python\nfrom datasets import load_dataset\n\n"
        f'rows = {DATA_PLACE}"{present[0] if present else "retrieval"}", split="train")\nprint(rows[0])\n```',
        f"Columns: `row_id`, `task_type`, `topic`, `task`, `query`, `positive`, `negative` (absent for matching tasks){_columns_of_languages(manifest)}.",
        "## Removed",
        _table(
            ["reason", "rows"],
            [[for_markdown(r), f"{n:,}"] for r, n in manifest["removed"].items()] or [["nothing", "0"]],
        ),
        "The removed rows are in `quarantine.parquet` of the release's folder, which a push does not send.",
        *_common(recipe, manifest),
    )


def size_category(rows: int) -> str:
    """The size category of hubs.

    >>> size_category(999), size_category(1000), size_category(2 * 10**7)
    ('n<1K', '1K<n<10K', '10M<n<100M')
    """
    return next((name for limit, name in _SIZES if rows < limit), "10M<n<100M")


def _unless_given(manifest: dict[str, Any], word: str) -> list[str]:
    """The word, unless rows are the user's own, or nobody knows here whether they are synthetic: those that a given model has seen."""
    given = {"final_triplets", "embedding_model"} & set(manifest.get("given", {}))
    return [word] if manifest["rows"] and not given else []


def _languages(recipe: RecipeView, manifest: dict[str, Any]) -> list[str]:
    """Languages of the rows: those drawn, the largest share first, else as their filter expects them."""
    return list(manifest["languages"]["drawn"] if "languages" in manifest else recipe.final_triplets.rules.languages)


def _language_table(manifest: dict[str, Any]) -> list[str]:
    """Each language with its share of the draw, and the rows of the release in it."""
    found = manifest.get("languages")
    if found is None:
        return []
    rows = [
        [
            LANGUAGE_NAMES.get(code, for_markdown(code)),
            f"`{code}`",
            f"{share:.1%}",
            f"{found['query'].get(code, 0):,}",
            f"{found['document'].get(code, 0):,}",
        ]
        for code, share in found["drawn"].items()
    ]
    words = f"The languages of query and documents differ in {found['cross_lingual']:,} rows. Labels, which are spelt as the task spells them, count in no column."
    return ["## Languages", _table(["language", "code", "drawn", "queries", "documents"], rows), words]


def _columns_of_languages(manifest: dict[str, Any]) -> str:
    return ", `query_language`, `document_language` (codes of ISO 639-1)" if "languages" in manifest else ""


def _toy_tag(recipe: RecipeView) -> list[str]:
    return ["toy-language"] if recipe.teacher.engine == "microworld" else []


def _toy_line(recipe: RecipeView) -> list[str]:
    """The first line of a card whose rows are of the microworld."""
    return [f"**This is a {IN_TOY_LANGUAGE}.**"] if recipe.teacher.engine == "microworld" else []


def _results(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """The released model's scores in the form of a model index: one result for each task."""
    scored = manifest["evaluation"]
    return [
        {
            "task": {"type": scored.get(task, {}).get("type") or "sentence-similarity"},
            "dataset": {
                "type": task,
                "name": task,
                **({"revision": revision} if (revision := scored.get(task, {}).get("dataset_revision")) else {}),
            },
            "metrics": [{"type": scored.get(task, {}).get("metric") or "main_score", "value": round(score, 5)}],
        }
        for task, score in manifest["scores"]["embedding_model"].items()
    ]


def _common(recipe: RecipeView, manifest: dict[str, Any]) -> list[str]:
    """What both cards say: data, models, cost, contamination, licences, limits, lineage."""
    return [
        "## Data",
        _data(manifest),
        *_given(manifest),
        *_dataset(manifest),
        *_language_table(manifest),
        "## Written by",
        _table(
            ["part", "model"], [[part.replace("_", " "), _model(name)] for part, name in manifest["models"].items()]
        ),
        *_own_examples(manifest),
        "## Calls and cost",
        _cost(manifest["teacher"]),
        "## Contamination",
        _contamination(manifest),
        "## Licences",
        _licences(recipe, manifest["licences"], manifest["models"]),
        "## Limits",
        _limits(recipe, manifest),
        "## Made of",
        f"<details><summary>{len(manifest['artifacts'])} artifacts with their fingerprints</summary>",
        _lineage_table(manifest),
        "</details>",
        "## Citation",
        f"The method is SPEED ({PAPER}):",
        f"```bibtex\n{CITATION}\n```",
    ]


def _data(manifest: dict[str, Any]) -> str:
    """Rows by task type, or why a release has none."""
    given = manifest.get("given", {})
    if "embedding_model" in given:
        return "None: the model was given."
    if "final_triplets" in given and not given["final_triplets"]["released"]:
        return "The rows are the user's own, and not part of this release."
    if not manifest["rows"]:
        return "The rows that the model was trained on are kept back: all are the user's own examples, which this release may not hold."
    return _table(["task type", "rows"], [[name, f"{rows:,}"] for name, rows in manifest["rows"].items()])


def _given_model(manifest: dict[str, Any]) -> list[str]:
    """The first lines of the card of a model that was not trained here."""
    found = manifest.get("given", {}).get("embedding_model")
    if found is None:
        return []
    return [
        f"**This model was given, and only scored here**: it is {_model(found['name'])}. What it was trained on is not known here, so no "
        "evaluation text could be searched for in it, and scores on texts that it has seen are too high."
    ]


def _given(manifest: dict[str, Any]) -> list[str]:
    """What the user gave in the place of an artifact, by its name and digest."""
    given = manifest.get("given")
    if not given:
        return []
    rows = [
        [
            stage,
            _model(found["name"]),
            _model(found["revision"]) if found["revision"] else "-",
            f"`{found['digest'][:16]}`",
        ]
        for stage, found in given.items()
    ]
    return [
        "## Given by the user",
        "These were not made by the recipe; their licences are the user's to check.",
        _table(["in the place of", "name", "commit", "digest"], rows),
    ]


def _dataset(manifest: dict[str, Any]) -> list[str]:
    """The data set that the documents are of, by its name and commit."""
    found = manifest.get("dataset")
    if not found:
        return []
    row = [_model(found["name"]), _model(found["config"]), _model(found["split"]), _model(found["revision"])]
    return [
        "## Documents",
        "The documents that rows or queries were written from are of this data set; its licence is the user's to check.",
        _table(["name", "configuration", "split", "commit"], [row]),
    ]


def _own_examples(manifest: dict[str, Any]) -> list[str]:
    """What a release with examples of its user says of them."""
    own = manifest.get("own_examples")
    if own is None:
        return []
    among = "may be among the rows" if own["released"] else "are not among the rows (`examples.released`)"
    return [
        "## Own examples",
        f"{own['rows']:,} queries and pairs of the user {among}. Generators or model may have been trained on them; their licence is the user's.",
    ]


def _card(front: dict[str, Any], *parts: str) -> str:
    return _front_matter(front) + "\n" + "\n\n".join(parts) + "\n"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _licence(name: str | None) -> dict[str, str]:
    return {"license": name} if name else {}


def _model(name: str | None) -> str:
    return f"`{for_markdown_code(name)}`" if name else "none"


def _cost(teacher: dict[str, Any]) -> str:
    """The cost of the teacher's calls; generators run on the user's machines and cost no calls."""
    money = "unknown" if teacher["cost"] is None else f"{teacher['cost']:,.4f} {teacher['currency'] or ''}".strip()
    return _table(
        ["teacher calls", "prompt tokens", "output tokens", "cost"],
        [[*(_or_dash(teacher[name]) for name in ("calls", "prompt_tokens", "output_tokens")), for_markdown(money)]],
    )


def _contamination(manifest: dict[str, Any]) -> str:
    """Every evaluation set whose texts were searched in the rows, and every one that was not searched."""
    rows = [
        [for_markdown(line["task"]), f"{line['texts']:,}", f"{line['removed']:,}"] for line in manifest["contamination"]
    ]
    parts = [_table(["evaluation set", "texts looked for", "rows removed"], rows)] if rows else []
    if unsearched := manifest["contamination_unsearched"]:
        names = ", ".join(map(for_markdown, unsearched))
        parts.append(
            f"**Not looked for**, since their texts were not at hand: {names}. Scores on these may be too high."
        )
    return "\n\n".join(parts) or "No evaluation set was looked for."


def _licences(recipe: RecipeView, licences: dict[str, str | None], models: dict[str, str | None]) -> str:
    stated = [[part, for_markdown(name) if name else "not stated"] for part, name in licences.items()]
    table = _table(["part", "licence"], stated)
    if recipe.teacher.engine == "microworld" or models["teacher"] is None:
        return table
    return (
        f"{table}\n\nThe conditions of the teacher `{for_markdown_code(recipe.teacher.model)}` and of the base models bear on "
        "both, and are the user's to check."
    )


def _front_matter(values: dict[str, Any]) -> str:
    return "---\n" + "\n".join(f"{key}: {json.dumps(value)}" for key, value in values.items()) + "\n---\n"


def _score_table(manifest: dict[str, Any]) -> str:
    """Scores with their intervals, and their spread between seeds of the training."""
    scores, intervals = manifest["scores"], manifest["score_intervals"]
    tasks = list(next(iter(scores.values())))
    rows = []
    for model, row in scores.items():
        edges = {task: intervals.get(model, {}).get(task) for task in tasks}
        cells = [f"{row[t]:.3f}" + (f" [{e[0]:.3f}, {e[1]:.3f}]" if (e := edges[t]) else "") for t in tasks]
        rows.append([for_markdown(model), *cells, f"{sum(row.values()) / len(row):.3f}"])
    if spread := manifest["sd_between_seeds"]:
        rows.append(["*sd between seeds*", *(f"{spread[task]:.3f}" for task in tasks), ""])
    words = "In brackets, where samples are known: bootstrap intervals (1 - `checks.superior.alpha`) over the chance of samples."
    if manifest["sd_between_seeds"]:
        words += f" The last line is the standard deviation between {manifest['trainings']} trainings that differ by their seed."
    return f"{_table(['model', *map(for_markdown, tasks), 'mean'], rows)}\n\n{words}"


def _lineage_table(manifest: dict[str, Any]) -> str:
    lines = ["| artifact | rows | teacher calls | fingerprint |", "|---|---|---|---|"]
    for name, entry in manifest["artifacts"].items():
        calls = entry["teacher_calls"]
        total = None if calls is None else calls + (entry["reused_calls"] or 0)
        lines.append(f"| {name} | {_or_dash(entry['rows'])} | {_or_dash(total)} | `{entry['fingerprint'][:12]}` |")
    return "\n".join([f"Recipe `{manifest['recipe']}`, digest `{manifest['recipe_digest'][:16]}`.", "", *lines])


def _or_dash(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _limits(recipe: RecipeView, manifest: dict[str, Any]) -> str:
    given = manifest.get("given", {})
    if {"embedding_model", "final_triplets"} & set(given):
        return "What was given carries its own errors and licence conditions; none of them is known here."
    if recipe.teacher.engine == "microworld":
        return (
            "Made in the microworld, a controlled language of twelve aspects: the scores show that the machinery works. "
            "They say nothing about natural text or about any published model."
        )
    return (
        "All data are synthetic and carry the errors and the licence conditions of their teacher and base models: "
        f"teacher `{for_markdown_code(recipe.teacher.model)}`, "
        f"generators from `{for_markdown_code(without_places(recipe.generator.base) if recipe.generator else 'none')}`."
    )
