"""A list of topics grows into a tree: which topics get subtopics, and which of the subtopics are new.

Two names are the same topic if they share their words: case, plurals and the order of words do not count. Everything here is
linear in the number of topics: siblings are compared with each other, all others through an index of their words.

Belongs here: choosing parents, reading children, repeats. Not here: topic files (`topics.py`), calls of the
teacher (`assets/topic_tree.py`), the wording of the prompt.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from speed_assets.domain.fingerprints import digest
from speed_assets.domain.topics import TopicError, read_topics

NAME_WORDS_MAX = 8
"""Words of a subtopic's name; the prompt asks for one to five (ours)."""
SAME_NAME_SHARE = 0.75
"""Share of words that two siblings may have in common, of all of theirs; from it on they are one subtopic (ours)."""

_WORDS = re.compile(r"[^\W_]+")
_NUMBERED = re.compile(r"^\s*(?:[-*•]|\(?\d{1,3}[.):])\s+")
_COLLECTIVE = frozenset(("other", "others", "general", "basics", "miscellaneous", "misc", "various", "overview"))
_SMALL = frozenset(("a", "an", "the", "of", "and", "in", "for", "to", "on", "with"))


def compared_words(text: str) -> frozenset[str]:
    """The words by which topic names are compared: lower case, singular, without articles and the like.

    >>> sorted(compared_words("The Histories of String Quartets"))
    ['history', 'quartet', 'string']
    """
    return frozenset(_singular(word) for word in _WORDS.findall(text.casefold()) if word not in _SMALL)


def _singular(word: str) -> str:
    if len(word) > 4 and word.endswith("ies"):
        return f"{word[:-3]}y"
    if len(word) > 4 and word.endswith(("sses", "shes", "ches", "xes", "zes")):
        return word[:-2]
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


def same_topic_name(one: frozenset[str], other: frozenset[str]) -> bool:
    """Whether two names are the same topic: they share at least `SAME_NAME_SHARE` of all their words.

    Args:
        one: Words of a name, by `compared_words`.
        other: Words of the other.
    """
    union = len(one | other)
    return bool(union) and len(one & other) / union >= SAME_NAME_SHARE


@dataclass(frozen=True, slots=True)
class TopicNode:
    """A topic of the tree: its full `path` and the shortened `topic`, both joined by `/`."""

    path: str
    topic: str


@dataclass
class TopicTree:
    """The topics so far, with what finds a new one that repeats one of them."""

    max_levels: int
    """Levels kept of a deeper path."""
    max_characters: int
    nodes: list[TopicNode] = field(default_factory=list)
    _topics: set[str] = field(default_factory=set)
    _paths: set[frozenset[str]] = field(default_factory=set)
    _names: dict[frozenset[str], str] = field(default_factory=dict)
    _children: dict[str, dict[str, frozenset[str]]] = field(default_factory=dict)

    def add_roots(self, nodes: Iterable[TopicNode]) -> None:
        """Add the user's topics. They are never rejected as repeats."""
        for node in nodes:
            self._take(node)

    def _take(self, node: TopicNode) -> None:
        parent, _, name = node.path.rpartition("/")
        words = compared_words(name)
        self.nodes.append(node)
        self._topics.add(node.topic.casefold())
        self._paths.add(compared_words(node.path))
        self._names.setdefault(words, node.path)
        self._children.setdefault(parent, {})[name] = words

    def children(self, parent: TopicNode) -> list[str]:
        """The names of the topics one level below, in the order in which they came."""
        return list(self._children.get(parent.path, ()))

    def grow(self, parent: TopicNode, name: str) -> TopicNode | str:
        """Add a subtopic to the tree.

        Args:
            parent: The topic above.
            name: The name that the teacher gave.

        Returns:
            The new topic, or the code of why it was rejected: `bad_name` (empty, too long, a sentence, not printable),
            `collective_name`, `repeats_parent`, `repeats_sibling`, `repeats_topic` (the same topic elsewhere in the tree).
        """
        name = " ".join(_NUMBERED.sub("", name).strip(" .;,:\"'").split())
        words = compared_words(name)
        node = self._read(parent, name)
        if node is None or not words or len(name.split()) > NAME_WORDS_MAX or name.endswith(("?", "!")):
            return "bad_name"
        if words <= _COLLECTIVE:
            return "collective_name"
        if words <= compared_words(parent.path.rpartition("/")[2]):
            return "repeats_parent"
        if any(same_topic_name(words, sibling) for sibling in self._children.get(parent.path, {}).values()):
            return "repeats_sibling"
        # One word names different things under different parents (History of what?); two or more name one thing.
        known = node.topic.casefold() in self._topics or compared_words(node.path) in self._paths
        if known or (len(words) > 1 and words in self._names):
            return "repeats_topic"
        self._take(node)
        return node

    def _read(self, parent: TopicNode, name: str) -> TopicNode | None:
        """The child as the reader of topic files takes it: the same characters, levels and lengths are allowed."""
        if not name:
            return None
        path = f"{parent.path}/{name.replace('/', '-').replace('>', '-').replace('#', '')}"
        try:
            reading = read_topics(
                path.encode("utf-8", "surrogateescape"), max_levels=self.max_levels, max_characters=self.max_characters
            )
        except (TopicError, UnicodeEncodeError):
            return None
        (topic,) = reading.topics or (None,)
        return TopicNode(topic.path, topic.topic) if topic is not None else None


def parents_to_expand(nodes: Sequence[TopicNode], room: int, children: int) -> list[TopicNode]:
    """The topics of a level that the teacher names subtopics of: as many as the room for new topics needs.

    They are chosen by a hash of their path, so that one more topic changes few choices.

    Args:
        nodes: the topics of one level.
        room: topics that the tree may still get.
        children: children that each is asked for.
    """
    wanted = -(-max(room, 0) // children)
    if wanted >= len(nodes):
        return list(nodes)
    ranked = sorted(nodes, key=lambda node: digest(["expand", node.path]))[:wanted]
    chosen = {node.path for node in ranked}
    return [node for node in nodes if node.path in chosen]


def expansion_calls(topics: int, children: int, levels: int, target: int, attempts: int) -> tuple[int, int]:
    """(calls, topics) of a tree whose every answer holds as many new children as it was asked for.

    Topics are then as many as there can be. Calls are counted as if every topic were asked `attempts` times.

    Args:
        topics: topics before the tree grows.
        children: children that each topic is asked for.
        levels: levels that are added.
        target: topics that the tree is to have.
        attempts: calls for each topic that is asked.

    >>> expansion_calls(445, 12, 2, 50_000, 1)
    (4130, 50005)
    """
    calls, level, total = 0, topics, topics
    for _ in range(levels):
        asked = min(level, -(-max(target - total, 0) // children))
        calls += asked
        level = asked * children
        total += level
    return calls * attempts, total
