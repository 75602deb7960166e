"""Sentences for the problems of answers, for the prompt that asks a teacher or generator again.

Codes are for grouping; a model that reads `missing_key:S3` may not understand it.

Belongs here: from a code to a sentence. Not here: finding problems (`parsing.py`, `rules`).
"""

from __future__ import annotations

_OF_ANSWER = {
    "not_json": "it held no JSON object",
    "not_object": "it was JSON, but no object",
    "too_long": "it was far too long",
    "same_positive_negative": "two of its texts that have to differ were the same",
    "copied_query": "one of its texts merely repeated another",
    "doubled_key": "a key stood in it twice",
    "prompt_echo": "one of its texts repeated words of this request",
    "unknown_key": "it had keys that were not asked for",
}
_OF_KEY = {
    "missing_key": 'the key "{key}" was missing',
    "wrong_type": 'what stood under "{key}" was no text',
    "empty_value": 'the text under "{key}" was empty',
}
_OF_RULE = {
    "refusal": "it refused to write",
    "as_an_ai": "a text spoke as an AI model",
    "draft_echo": "the answer only repeats the draft",
    "template_echo": "a text repeated words of the request's own form",
    "task_echo": "a text merely repeated the task",
    "other_script": "a text was not in the language asked for",
    "other_language": "a text was not in the language asked for",
    "label_in_text": "the text gave its label away",
    "query_in_positive": "the right document repeated the query word for word",
    "query_in_negative": "the wrong document repeated the query word for word",
    "same_query_negative": "the wrong text was the query itself",
    "same_positive_negative": "the right and the wrong text were the same",
    "too_short": "a text was much shorter than asked for",
    "too_long": "a text was much longer than asked for",
    "label_too_long": "a label was too long",
    "unfinished": "a text broke off before its end",
    "noise": "a text held strings that are no language",
    "markup": "a text held markup or keys instead of plain text",
    "about_the_document": "a document spoke about itself instead of its subject",
    "personal_data": "a text held what looks like personal data",
    "repetition": "a text said the same again and again",
    "unlike_passage": "a text had nothing to do with the passage",
    "label_not_named": "a label was none of the classes that the task names",
}


def problem_sentence(problem: str) -> str:
    """What was wrong with an answer, as half a sentence.

    >>> problem_sentence("missing_key:S3"), problem_sentence("rule:too_short")
    ('the key "S3" was missing', 'a text was much shorter than asked for')
    """
    code, _, detail = problem.partition(":")
    if code == "rule":
        return _OF_RULE.get(detail, detail.replace("_", " "))
    if code in _OF_KEY:
        return _OF_KEY[code].format(key=detail)
    return _OF_ANSWER.get(problem, problem.replace("_", " "))
