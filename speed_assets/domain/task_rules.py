"""Rules that reject brainstormed lines which are not usable as an instruction above examples.

A rule reads only the form of a task: how it begins and ends, its characters, what it repeats. Every code is short and
never changes its meaning.

Belongs here: rules on one brainstormed task. Not here: rows that are written for a task (`rules`), repeats among
tasks, and whether a task suits its topic.
"""

from __future__ import annotations

import re
from typing import Literal, get_args

from speed_assets.domain.noise import is_noise
from speed_assets.domain.parsing import words_only

TaskRuleCode = Literal[
    "noise",
    "other_script",
    "markup",
    "refusal",
    "too_short",
    "too_long",
    "heading",
    "topic_echo",
    "prompt_echo",
    "question",
    "fragment",
    "other_language",
    "asks_to_write",
    "no_instruction",
    "other_kind",
]
TASK_RULE_CODES: tuple[TaskRuleCode, ...] = get_args(TaskRuleCode)

WORDS_LEAST = 4
"""A shorter task names no purpose ("write document"). Ours."""
WORDS_MOST = 60
"""A longer task is a text of its own. Ours: the longest instruction that E5 publishes has 24 words."""
ECHO_WORDS = 8
"""A task that shares this many consecutive words with the prompt, outside the topic, copies the prompt. Ours."""

_OTHER_SCRIPT = re.compile(r"[^\W\d_a-zA-Z\u00aa-\u02ff\u0370-\u03ff\u1d00-\u1eff\u2c60-\u2c7f\ua720-\ua7ff]")
"""Letters that English does not spell with. Phonetic signs and the half rings and marks of transliterated names are spelling."""
_QUOTED = re.compile(r"[\"\u201c\u2018'(\[][^\"\u201c\u201d\u2018\u2019'()\[\]]{1,40}[\"\u201d\u2019')\]]")
"""What a task names in quotes or brackets, such as a word of the language that it is about."""
_MARKUP = re.compile(
    r"```|</?[a-zA-Z][\w-]*>|[{}]|\\n|https?://|^\s*(?:def|class|import|function)\s\w+\s*\(|;\s*\w+\s*="
)
_REFUSAL = re.compile(
    r"(?i)^\W*(?:i(?:['\u2019]m| am)? (?:sorry|apologi[sz]e|can(?:not|['\u2019]t)|am unable|do not|don['\u2019]t)|as an? (?:ai|language)\b"
    r"|unfortunately\b|(?:sure|certainly|of course|okay|ok)\b\W|here (?:is|are)\b|let['\u2019]s\b|let us\b|please\b|no tasks?\b)"
)
_HEADING = re.compile(
    r"(?i)^\W*(?:\d+\s*[.):]|(?:title|topic|task|tasks|query|queries|description|example|examples|category|text|input|output|label"
    r"|labels|instruction|instructions|note|answer|document|classification|retrieval|matching)(?:\s*(?:\d+|one|two|three))?\s*[:.\u2013-])"
)
_OF_THE_PROMPT = re.compile(
    r"(?i)\b(?:topic|task|prompt|instructions?|list) (?:above|below)\b|\b(?:above|below|following|given|this) topic\b"
    r"|\bfor the topic\b|\bsuch a task\b|\bthe goal of (?:this|the) task\b|\b(?:json|list) of (?:exactly )?\w+ strings\b"
    r"|\bmake the tasks differ\b|\bthe topic refers?\b|\beach task\b"
    r"|\b(?:invent|brainstorm)\b.{0,40}\btasks?\b|\b(?:classification|retrieval|matching) tasks?\b"
)
_ASKS = re.compile(
    r"(?i)^\W*(?:what|which|who|whom|whose|why|how|where|when|is|are|was|were|do|does|did|can|could|should|would|will|has"
    r"|have)\b"
)
_OPEN_END = re.compile(
    r"(?i)(?:[,;:(\[{\u2013\u2014/&-]|\.\.\.|\u2026|\b(?:a|an|the|and|or|but|nor|that|which|who|whose|whether|if|as|than|such|e\.g\.|i\.e\."
    r"|their|his|her|my|your|this|these|those|any|each|every|some))[\s.]*$"
)
_PREPOSITION = re.compile(
    r"(?i)\b(?:of|to|in|on|at|by|for|from|with|without|into|onto|between|about|is|are|was|were|be|been)[\s.]*$"
)
_CLAUSE = re.compile(r"(?i)\b(?:that|which|who|whom|what|where|it|they|whose)\b")
"""A preposition may end a clause that one of these opens: "the part that it belongs to"."""
_CUT_NOUN = re.compile(r"(?i)(?<!\bis )(?<!\bare )(?<!\bwas )(?<!\bwere )\bthe \w+ of[\s.]*$")
"""But not "a text that explains the topic of", where nothing is the topic of it."""
_SENTENCE_END = re.compile(r"[.!?]\s+")
_FUNCTION_WORD = re.compile(
    r"(?i)\b(?:the|a|an|and|or|of|with|that|this|are|is|was|from|for|to|it|its|by|in|on|as|which|whether|their)\b"
)

_VERBS = [
    "allocate",
    "analyse",
    "analyze",
    "annotate",
    "appraise",
    "ascertain",
    "assess",
    "assign",
    "associate",
    "attribute",
    "bucket",
    "catalog",
    "catalogue",
    "categorise",
    "categorize",
    "check",
    "choose",
    "classify",
    "cluster",
    "collect",
    "compare",
    "complete",
    "connect",
    "correlate",
    "decide",
    "deduce",
    "derive",
    "detect",
    "determine",
    "diagnose",
    "differentiate",
    "discern",
    "discover",
    "discriminate",
    "distinguish",
    "divide",
    "establish",
    "estimate",
    "evaluate",
    "examine",
    "extract",
    "fetch",
    "figure",
    "filter",
    "find",
    "flag",
    "gauge",
    "get",
    "grade",
    "group",
    "guess",
    "help",
    "highlight",
    "identify",
    "index",
    "infer",
    "inspect",
    "judge",
    "label",
    "link",
    "list",
    "locate",
    "look",
    "mark",
    "match",
    "measure",
    "name",
    "obtain",
    "order",
    "organise",
    "organize",
    "pair",
    "partition",
    "pick",
    "pinpoint",
    "place",
    "predict",
    "prioritise",
    "prioritize",
    "rank",
    "rate",
    "read",
    "recall",
    "recognise",
    "recognize",
    "recommend",
    "relate",
    "respond",
    "retrieve",
    "return",
    "route",
    "score",
    "screen",
    "search",
    "select",
    "separate",
    "sort",
    "spot",
    "suggest",
    "surface",
    "tag",
    "tell",
    "trace",
    "track",
    "triage",
    "uncover",
    "verify",
]
"""Verbs by which a text is put into a class, found, or compared with another."""
_WRITING_VERBS = [
    "answer",
    "compose",
    "convert",
    "create",
    "craft",
    "describe",
    "design",
    "develop",
    "discuss",
    "draft",
    "elaborate",
    "explain",
    "formulate",
    "generate",
    "illustrate",
    "imagine",
    "invent",
    "outline",
    "paraphrase",
    "produce",
    "propose",
    "provide",
    "rewrite",
    "say",
    "simplify",
    "summarise",
    "summarize",
    "translate",
    "write",
]
_WRITING = re.compile(rf"(?i)^\W*(?:{'|'.join(_WRITING_VERBS)})\b")
_GERUNDS = {verb.removesuffix("e") + "ing" if verb.endswith("e") else verb + "ing" for verb in _VERBS} | {
    "getting",
    "tagging",
    "flagging",
    "spotting",
}
_ADVERBS = r"(?:[a-z]+ly,? )?"
_IMPERATIVE = re.compile(rf"(?i)^\W*{_ADVERBS}(?:{'|'.join((*_VERBS, *_GERUNDS))})\b")
_GIVEN = re.compile(
    r"(?i)^\W*(?:given|provided|based on|starting (?:from|with)|from|for|using|in|among|with|within|when|if|to|on the basis of"
    r"|according to|by|after|out of|considering)\b.*?"
    rf"(?:[,:]|\bto\b)\s*(?:and |then )?{_ADVERBS}(?:{'|'.join(_VERBS)})\b"
)
_CLASSIFIES = re.compile(r"(?i)^(?:.*,)?\W*(?:classify|categori[sz]e|classifying|categori[sz]ing)\b")
_SEARCHES = re.compile(r"(?i)^(?:.*,)?\W*(?:retrieve|search|fetch|look up|retrieving|searching)\b")


def broken_task_rule(task: str, topic: str, task_type: str, prompt: str | None = None) -> TaskRuleCode | None:
    """What is wrong with a brainstormed task.

    Args:
        task: One line, as `parsing.parse_tasks` returns it.
        topic: The topic that it was asked for, a path such as `Arts/Music`.
        task_type: Name of the task type. The task of STS is its topic: of it only characters are asked.
        prompt: What the teacher was asked; None does not look whether the task repeats it.

    Returns:
        The code of the first rule that it breaks, in the order of `TASK_RULE_CODES`, or None.
    """
    task = task.strip()
    if is_noise(task):
        return "noise"
    if _OTHER_SCRIPT.search(_QUOTED.sub(" ", task)):
        return "other_script"
    words = task.split()
    if task_type == "sts":
        return "too_long" if len(words) > WORDS_MOST else None
    if _MARKUP.search(task):
        return "markup"
    if _REFUSAL.match(task):
        return "refusal"
    return _wrong_size(words) or _echo(task, topic, prompt) or _wrong_form(task, words) or _wrong_kind(task, task_type)


def _wrong_size(words: list[str]) -> TaskRuleCode | None:
    if len(words) < WORDS_LEAST or (len({word.lower() for word in words}) * 2 <= len(words) and len(words) < 20):
        return "too_short"  # the same word again and again says no more
    return "too_long" if len(words) > WORDS_MOST else None


def _echo(task: str, topic: str, prompt: str | None) -> TaskRuleCode | None:
    if _HEADING.match(task):
        return "heading"
    task_words, named = words_only(task), words_only(topic)
    if task_words in (named, words_only(topic.rsplit("/", 1)[-1])):
        return "topic_echo"
    if _OF_THE_PROMPT.search(task) or (
        prompt is not None and _repeats(task_words, words_only(prompt.replace(topic, "\n")))
    ):
        return "prompt_echo"
    return None


def _repeats(task_words: str, prompt: str) -> bool:
    """Whether a run of `ECHO_WORDS` words, or all of fewer, occurs in the prompt; both are folded."""
    words = task_words.split()
    around = f" {prompt} "
    runs = range(max(1, len(words) - ECHO_WORDS + 1))
    return any(f" {' '.join(words[at : at + ECHO_WORDS])} " in around for at in runs)


def _wrong_form(task: str, words: list[str]) -> TaskRuleCode | None:
    if task.endswith("?") or _ASKS.match(task):
        return "question"
    quotes = task.count('"') % 2 or task.count("\u201c") != task.count("\u201d")
    brackets = any(task.count(opening) != task.count(closing) for opening, closing in ("()", "[]"))
    last = _SENTENCE_END.split(task.strip())[-1]
    hanging = _PREPOSITION.search(task) and (not _CLAUSE.search(last) or _CUT_NOUN.search(last))
    if quotes or brackets or hanging or _OPEN_END.search(task) or re.search(r"\s['\u2018]$", task):
        return "fragment"
    if len(words) >= 6 and not _FUNCTION_WORD.search(task):
        return "other_language"
    if _WRITING.match(task):
        return "asks_to_write"
    return None if _IMPERATIVE.match(task) or _GIVEN.match(task) else "no_instruction"


def _wrong_kind(task: str, task_type: str) -> TaskRuleCode | None:
    if task_type == "classification":
        return "other_kind" if _SEARCHES.match(task) else None
    return "other_kind" if _CLASSIFIES.match(task) else None
