"""The topic tree: the recipe's topics, and subtopics that the teacher names for them, level by level.

The prompt for a topic's children names that topic and nothing else, so a new topic costs the calls for its own children
and for theirs: all others are cached in the ledger. Which topics are asked follows from hashes of their paths, for the same reason.

Belongs here: the stage. Not here: what a repeat is, and who is asked (`domain/topic_growth.py`).
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import polars as pl

from resources.teacher.teacher_use import TeacherUse
from speed_assets.assets.stage_run import StageRun
from speed_assets.domain.answers import CUT_OFF
from speed_assets.domain.fingerprints import short_id
from speed_assets.domain.parsing import parse_tasks
from speed_assets.domain.prompts import list_schema
from speed_assets.domain.rows import TEACHER_REFUSED
from speed_assets.domain.topic_growth import NAME_WORDS_MAX, TopicNode, TopicTree, parents_to_expand
from speed_assets.recipe import Expand

NAMED_MORE = 2
"""More children are read from an answer than were asked for, by this factor: what comes after the last new one is dropped."""


def topic_tree(run: StageRun[None]) -> dict[str, Any]:
    """The topics of the input, then their children, then those of the children, until `topics.expand` has enough."""
    section = run.recipe.topics.expand
    assert section is not None, "the graph has this stage only where topics.expand is set"
    roots = run.input("topics").table()
    tree = TopicTree(run.recipe.topics.max_levels, run.recipe.topics.max_characters)
    written = roots.filter("synthesis")
    tree.add_roots(TopicNode(path, topic) for path, topic in written.select("path", "topic").iter_rows())
    growth = _Growth(run, section, tree)
    level, levels = list(tree.nodes), []
    for _ in range(section.levels):
        asked = parents_to_expand(level, section.target - len(tree.nodes), section.children)
        if not asked:
            break
        level = growth.children_of(asked)
        levels.append({"asked": len(asked), "new": len(level)})
    new = tree.nodes[written.height :]
    # Subtopics are for synthesis; without alignment topics of their own all topics serve both.
    both = bool(roots["alignment"].all())
    grown = pl.DataFrame(
        {
            "topic_id": [short_id("topic", node.topic) for node in new],
            "path": [node.path for node in new],
            "topic": [node.topic for node in new],
        },
        schema={"topic_id": pl.String, "path": pl.String, "topic": pl.String},
    ).with_columns(line=pl.lit(None, pl.Int64), synthesis=pl.lit(True), alignment=pl.lit(both))
    rows = pl.concat([roots, grown.select(roots.columns)])
    run.write(rows)
    rejected = pl.DataFrame(
        growth.rejected, schema=dict.fromkeys(("row_id", "task_type", "reason", "detail", "raw"), pl.String)
    )
    run.quarantine(rejected, pl.col("reason"), pl.col("detail"), pl.col("raw"))
    return {
        "asked": rows.height + rejected.height,
        "topics_before": roots.height,
        "levels": levels,
        "dropped": dict(rejected["reason"].value_counts(sort=True).iter_rows()),
        **(sum(growth.used[1:], start=growth.used[0]).metadata() if growth.used else {}),
    }


class _Growth:
    """Asking for children, and what is rejected on the way."""

    def __init__(self, run: StageRun[None], section: Expand, tree: TopicTree) -> None:
        self._run, self._section, self._tree = run, section, tree
        self._prompts = run.prompts
        self.used: list[TeacherUse] = []
        self.rejected: list[dict[str, str | None]] = []

    def children_of(self, parents: list[TopicNode]) -> list[TopicNode]:
        """The new topics below `parents`, in the order of these; none beyond the target."""
        section = self._section
        found: dict[str, list[TopicNode]] = {parent.path: [] for parent in parents}
        pending, cuts = parents, Counter[str]()
        for attempt in range(section.attempts):
            texts = [self._prompt(parent, attempt) for parent in pending]
            words = [NAME_WORDS_MAX * section.children] * len(texts)
            answers, use = self._run.ask(
                texts,
                section.sampling,
                list_schema(section.children),
                sample=attempt,
                limits=self._run.limits(section.sampling, words, [cuts[parent.path] for parent in pending]),
            )
            self.used.append(use)
            again = []
            for parent, answer in zip(pending, answers, strict=True):
                read = parse_tasks(answer.text, NAMED_MORE * section.children, answer.finished)
                names = () if isinstance(read, str) else read
                found[parent.path] += self._grown(parent, names, section.children - len(found[parent.path]))
                few = len(found[parent.path]) < section.enough * section.children
                if few and answer.error is None:
                    again.append(parent)
                    cuts[parent.path] += read == CUT_OFF
                if answer.error is not None:
                    self._reject(parent, TEACHER_REFUSED, answer.error, answer.text)
                elif not names:
                    reason = CUT_OFF if read == CUT_OFF else "no_subtopics"
                    self._reject(parent, reason, f"attempt {attempt + 1} of {section.attempts}", answer.text)
            pending = again
            if not pending:
                break
        return [node for parent in parents for node in found[parent.path]]

    def _prompt(self, parent: TopicNode, attempt: int) -> str:
        named = self._tree.children(parent) if attempt else ()
        return self._prompts.expand(parent.path, self._section.children, named)

    def _grown(self, parent: TopicNode, names: tuple[str, ...], wanted: int) -> list[TopicNode]:
        """The first `wanted` new topics among the names."""
        new: list[TopicNode] = []
        for name in names:
            if len(new) >= wanted or len(self._tree.nodes) >= self._section.target:
                break
            node = self._tree.grow(parent, name)
            if isinstance(node, TopicNode):
                new.append(node)
            else:
                self._reject(parent, node, f"below {parent.path}", name)
        return new

    def _reject(self, parent: TopicNode, reason: str, detail: str, raw: str) -> None:
        row_id = short_id("topic", parent.path, raw, len(self.rejected))
        self.rejected.append({"row_id": row_id, "task_type": None, "reason": reason, "detail": detail, "raw": raw})
