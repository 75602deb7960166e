"""The language of the microworld: topics x aspects x phrasings, to write and to recognise.

A text is about one *topic* (any phrase, so the language is open) under one *aspect* (one of twelve, in
six confusable sibling pairs). An aspect shows itself only through cue words, and the cues of queries
are disjoint from the cues of documents: no word overlap gives the right aspect away, it has to be
learned. Since every cue belongs to exactly one aspect, the aspect of a text is recognised exactly.

Belongs here: vocabulary, writing, recognising. Not here: prompts, judging, records of a task type.
"""

from __future__ import annotations

import random
import re
import unicodedata
from dataclasses import dataclass

LANGUAGE_VERSION = "1"

SIBLING_PAIRS: tuple[tuple[str, str], ...] = (
    ("cost", "worth"),
    ("learning", "mastery"),
    ("past", "future"),
    ("danger", "rules"),
    ("repair", "upkeep"),
    ("making", "buying"),
)
ASPECTS: tuple[str, ...] = tuple(aspect for pair in SIBLING_PAIRS for aspect in pair)
SIBLING: dict[str, str] = {a: b for pair in SIBLING_PAIRS for a, b in (pair, pair[::-1])}

_QUERY_CUES = {
    "cost": "price fee expense budget rate dollars bill quote discount outlay sum estimate",
    "worth": "value benefit merit reward usefulness return quality advantage importance gain point payoff",
    "learning": "lesson beginner tutorial basics introduction course primer start guide class starter teacher",
    "mastery": "expert advanced technique secret champion professional trick perfection finesse virtuoso skill elite",
    "past": "history origin ancestor beginnings tradition heritage era founder ancient roots yesterday background",
    "future": "trend forecast prediction tomorrow outlook innovation prospect next upcoming revolution progress vision",
    "danger": "risk hazard accident injury threat harm warning peril emergency damage safety fear",
    "rules": "law regulation permit license rule policy code restriction ban requirement legality duty",
    "repair": "fix broken fault problem mend failure crack leak breakdown trouble replacement defect",
    "upkeep": "cleaning maintenance care storage polish hygiene preservation wash routine lifespan freshness protection",
    "making": "recipe production manufacture assembly material design build craft construction ingredient plan workshop",
    "buying": "shop store seller deal purchase order brand market delivery vendor catalog choice",
}
_DOCUMENT_CUES = {
    "cost": "invoice payment charge cash tariff deposit receipt surcharge coins refund spending tally",
    "worth": "prestige satisfaction durability appraisal esteem profit rarity excellence comfort joy utility acclaim",
    "learning": "exercise homework workbook novice pupil syllabus worksheet classroom textbook tutor practice fundamentals",
    "mastery": "precision discipline intuition veteran fluency virtuosity trophy refinement rigor nuance subtlety maestro",
    "past": "archive century chronicle museum manuscript dynasty relic legend empire memoir monument fossil",
    "future": "prototype automation breakthrough roadmap projection robot experiment laboratory pioneer startup algorithm horizon",
    "danger": "bruise hospital alarm burn fracture helmet poison fire collision ambulance wound infection",
    "rules": "statute clause inspector court penalty paragraph verdict lawyer fine authority decree treaty",
    "repair": "spare screwdriver glue welding patch wrench solder bolt toolbox mechanic gasket hammer",
    "upkeep": "cloth sponge lubricant wax dust rinse brush varnish humidity drawer detergent cover",
    "making": "factory mold furnace lathe blend kiln loom foundry batch conveyor sketch raw",
    "buying": "cart checkout shelf warehouse salesman showroom auction basket bargain retailer parcel aisle",
}
QUERY_CUES: dict[str, tuple[str, ...]] = {a: tuple(w.split()) for a, w in _QUERY_CUES.items()}
DOCUMENT_CUES: dict[str, tuple[str, ...]] = {a: tuple(w.split()) for a, w in _DOCUMENT_CUES.items()}
CUE_ASPECT: dict[str, str] = {
    cue: aspect for table in (QUERY_CUES, DOCUMENT_CUES) for aspect, cues in table.items() for cue in cues
}
_IS_QUERY_CUE = frozenset(cue for cues in QUERY_CUES.values() for cue in cues)

# Neither a topic nor a cue opens a text: small tokenizers cut a word after a space differently from one after a quote,
# and every word would have to be learned twice.
_SHORT_QUERIES = ("my {t} {0}", "the {0} of {t}", "any {0} for {t}")
_LONG_QUERIES = (
    "which {0} and {1} for {t}",
    "tell me about {0} of {t} and its {1}",
    "looking for {0} or {1} with {t}",
    "what {0} comes with {t}, and what {1}",
    "is there any {0} around {t} or {1}",
)
_SHORT_TEXTS = ("on {t}: {0} and {1}", "some {0} and {1} by {t}", "all {t}, {0}, {1}")
_SENTENCES = (
    "here {t} brings {0}, {1} and {2}.",
    "a note on {t}: {0}, then {1}.",
    "with {t} you meet {0} and {1}.",
    "both {0} and {1} belong to {t}.",
    "people link {t} to {0}, {1} and {2}.",
    "the {0} around {t} calls for {1}.",
    "for {t} there is {0}, and {1} too.",
    "ask anyone: {t} means {0} or {1}.",
)
_FOLLOW_UPS = (
    " it also shows {0} and {1}.",
    " then come {0} and {1}.",
    " some add {0}, others {1}.",
    " do not forget {0} or {1}.",
)

_WORD = re.compile(r"[a-z]+")
_NOT_PLAIN = re.compile(r"[^a-z0-9]+")


def topic_phrase(topic: str) -> str:
    """The phrase that texts use for a topic path: its last level, lower case, letters and digits only.

    >>> topic_phrase("Arts/Music/Chamber_Music")
    'chamber music'
    """
    leaf = topic.rsplit("/", 1)[-1]
    plain = unicodedata.normalize("NFKD", leaf).encode("ascii", "ignore").decode().lower()
    phrase = _NOT_PLAIN.sub(" ", plain).strip()
    return " ".join(phrase.split()[:6]) or leaf.casefold().strip()


def _fill(template: str, topic: str, cues: tuple[str, ...], rng: random.Random) -> str:
    return template.format(*rng.sample(cues, 3), t=topic)


def write_query(topic: str, aspect: str, rng: random.Random, long: bool | None = None) -> str:
    """A query on `topic` under `aspect`, in query cues.

    Args:
        topic: A topic phrase.
        aspect: One of `ASPECTS`.
        rng: Draws the cues and the phrasing.
        long: Two cues instead of one; None takes two in 60 % of the draws (ours).
    """
    long = rng.random() < 0.6 if long is None else long
    return _fill(rng.choice(_LONG_QUERIES if long else _SHORT_QUERIES), topic, QUERY_CUES[aspect], rng)


def write_short(topic: str, aspect: str, rng: random.Random) -> str:
    """A phrase on `topic` under `aspect`, in two document cues and no sentence."""
    return _fill(rng.choice(_SHORT_TEXTS), topic, DOCUMENT_CUES[aspect], rng)


def write_document(topic: str, aspect: str, rng: random.Random, long: bool | None = None) -> str:
    """One sentence in document cues, or two when `long`.

    Args:
        topic: A topic phrase.
        aspect: One of `ASPECTS`.
        rng: Draws the cues and the phrasing.
        long: Two sentences instead of one; None takes two in 40 % of the draws (ours).
    """
    long = rng.random() < 0.4 if long is None else long
    cues = rng.sample(DOCUMENT_CUES[aspect], 5)
    text = rng.choice(_SENTENCES).format(*cues[:3], t=topic)
    return text + rng.choice(_FOLLOW_UPS).format(*cues[3:]) if long else text


@dataclass(frozen=True, slots=True)
class TextReading:
    """The content of a text: aspects of its query cues and of its document cues, and whether it names the topic."""

    on_topic: bool
    query_aspects: frozenset[str]
    document_aspects: frozenset[str]

    @property
    def aspect(self) -> str | None:
        """The one aspect that all cues agree on, else None."""
        aspects = self.query_aspects | self.document_aspects
        return next(iter(aspects)) if len(aspects) == 1 else None


def word_for_reading(text: str, topic: str) -> str:
    """The content of a text in a word.

    Args:
        text: Any text.
        topic: The topic phrase that it should be about.

    Returns:
        Its aspect, with a question mark when only query cues name it; `astray` off the topic; `bare` or `mixed` without one
        aspect.
    """
    if text in SIBLING:
        return text
    reading = read_text(text, topic)
    if not reading.on_topic:
        return "astray"
    if reading.aspect is None:
        return "mixed" if reading.query_aspects | reading.document_aspects else "bare"
    return reading.aspect + ("" if reading.document_aspects else "?")


def read_text(text: str, topic: str) -> TextReading:
    """Recognise the aspects of `text` and whether it names `topic`. Words of the topic itself are never taken for cues."""
    plain = f" {' '.join(_NOT_PLAIN.sub(' ', text.lower()).split())} "
    needle = f" {topic} "
    on_topic = bool(topic) and needle in plain
    words = _WORD.findall(plain.replace(needle, " ") if on_topic else plain)
    cues = [word for word in words if word in CUE_ASPECT]
    return TextReading(
        on_topic=on_topic,
        query_aspects=frozenset(CUE_ASPECT[c] for c in cues if c in _IS_QUERY_CUE),
        document_aspects=frozenset(CUE_ASPECT[c] for c in cues if c not in _IS_QUERY_CUE),
    )
