"""Whether the user's documents can be read, and whether rules would reject what is written about texts of their languages.

Belongs here: documents, and the languages of documents, examples and topics. Not here: topics, examples and evaluation sets as files
(`input_probes.py`).
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from resources.inputs.corpus_files import Bounds, Columns, corpus_files, read_corpus
from resources.inputs.example_files import read_examples
from speed_assets.domain.given_texts import fitting_sentences
from speed_assets.domain.language import known_languages, other_language_probability
from speed_assets.domain.rules.expressions import has_other_script
from speed_assets.domain.topics import TopicError, read_topics
from speed_assets.orchestration.doctor.finding import Finding, error, ok, warning
from speed_assets.recipe import RULED, Corpus, Recipe, RecipeError, Rules

FILES_READ = 40
"""Files of a corpus that are read, spread over their names: a probe takes seconds (ours)."""
DOCUMENTS_READ = 5
"""Documents of one file."""
MEGABYTES_READ = 5.0
"""Larger files are not opened by a probe."""
CHARACTERS_READ = 2000
WARNED_FROM = 0.1
"""Share of texts in other languages from which on there is a warning (ours)."""


def corpus(recipe: Recipe) -> list[Finding]:
    """There are documents, those that are tried can be read, and they have sentences where STS rows are written from some."""
    if recipe.corpus is None:
        return []
    places = {"corpus.path": recipe.corpus.path, "corpus.alignment": recipe.corpus.alignment}
    if gone := [(field, place) for field, place in places.items() if place and not Path(place).exists()]:
        return [error("corpus", f"there is no file or folder {place}", field) for field, place in gone]
    files = corpus_files(Path(recipe.corpus.path))
    documents, refused = _sample(recipe.corpus)
    if not documents and refused:
        return [
            error("corpus", f"none of {refused} files tried can be read as documents", "corpus.path, corpus.columns")
        ]
    words = f"{len(files):,} files; of {refused + len(documents)} documents and files tried {refused} cannot be read"
    if refused > WARNED_FROM * (refused + len(documents)):
        return [warning("corpus", words, "corpus.encoding, corpus.columns; the quarantine of passages has each")]
    return [ok("corpus", words), *_sentences(recipe, documents)]


def _sentences(recipe: Recipe, documents: list[str]) -> list[Finding]:
    """A warning where STS rows need sentences, and documents tried have none of their length."""
    section = recipe.grounded_rows.sts
    if "grounded_sts" not in recipe.given_text_types() or not documents:
        return []
    without = sum(not fitting_sentences(text, section.words_min, section.words_max) for text in documents)
    words = (
        f"{without} of {len(documents)} documents tried begin without a sentence of {section.words_min} to {section.words_max} words, "
        "from which STS rows are written"
    )
    mend = "grounded_rows.sts.words_min, grounded_rows.sts.words_max, corpus.shares.sts"
    return [warning("corpus", words, mend)] if 2 * without > len(documents) else []


def text_languages(recipe: Recipe) -> list[Finding]:
    """Documents, examples and topics are in the languages of the rules: what is written about others would be rejected.

    Where a recipe draws languages, prompts say them, and topics may be in any other.
    """
    rules = recipe.final_triplets.rules
    found = _undetected(recipe)
    if any(finding.status == "error" for finding in found):
        return found
    for name, field, texts in _texts(recipe):
        others = foreign(texts, rules)
        if texts and others > WARNED_FROM * len(texts):
            words = (
                f"{others} of {len(texts)} {name} are in other languages or scripts than "
                f"final_triplets.rules.languages ({', '.join(rules.languages)}): rows in these languages are rejected"
            )
            change = "languages" if recipe.languages else "final_triplets.rules.languages, and other rules"
            found.append(warning("languages", words, f"{change}; or {field}"))
    return found


def _undetected(recipe: Recipe) -> list[Finding]:
    """Languages of rules that the language identifier does not know, and rules that do not ask it about drawn languages."""
    found = []
    if recipe.languages and recipe.final_triplets.rules.language_confidence is None:
        words = "rows in another language than was drawn for them are found by their script alone"
        found.append(warning("languages", words, "final_triplets.rules.language_confidence=0.98"))
    for name in RULED:
        rules: Rules | None = getattr(getattr(recipe, name), "rules", None)
        if rules is None or rules.language_confidence is None or rules.languages == ("en",):
            continue
        if unknown := sorted({*rules.languages} - known_languages()):
            words = f"{name}.rules.languages names {', '.join(unknown)}, which the language identifier does not know: the stage would stop"
            found.append(
                error("languages", words, f"{name}.rules.languages, as ISO 639-1 codes; or language_confidence: null")
            )
    return found


def foreign(texts: list[str], rules: Rules) -> int:
    """How many texts the rules on languages and scripts would reject."""
    rows = pl.DataFrame({"text": texts}, schema={"text": pl.String})
    marks = pl.repeat(False, len(texts), dtype=pl.Boolean, eager=True)
    if "other_script" not in rules.skip:
        other = has_other_script(pl.col("text"), rules.languages, rules.other_script_max)
        marks |= rows.select(other).to_series()
    if rules.language_confidence is not None and "other_language" not in rules.skip:
        likely = other_language_probability(rows["text"], rules.languages, rules.language_characters_min)
        marks |= (likely >= rules.language_confidence).fill_null(False)
    return int(marks.sum())


def _sample(section: Corpus) -> tuple[list[str], int]:
    """(beginnings of some documents, files and rows that could not be read)."""
    files = [file for file in corpus_files(Path(section.path)) if file.is_file() and not file.is_symlink()]
    texts: list[str] = []
    refused = 0
    for file in files[:: max(1, len(files) // FILES_READ)][:FILES_READ]:
        if file.stat().st_size > MEGABYTES_READ * 1_000_000:
            continue
        bounds = Bounds(MEGABYTES_READ, section.documents_max, section.document_characters_max)
        try:
            reading = read_corpus(file, Columns(**section.columns.model_dump()), section.encoding, bounds)
        except (RecipeError, OSError):
            refused += 1
            continue
        refused += len(reading.refused)
        for document in reading.documents[:DOCUMENTS_READ]:
            texts.append("\n".join(block.text for block in document.blocks)[:CHARACTERS_READ])
    return texts, refused


def _texts(recipe: Recipe) -> list[tuple[str, str, list[str]]]:
    """(what they are, where they are named, texts) of everything that rows are written about."""
    found: list[tuple[str, str, list[str]]] = []
    try:
        if recipe.corpus is not None and Path(recipe.corpus.path).exists():
            found.append(("documents read", "corpus.path", _sample(recipe.corpus)[0]))
        if recipe.examples is not None:
            queries = read_examples(recipe.examples)["query"].drop_nulls().head(1000).to_list()
            found.append(("queries of examples", "examples.file", queries))
        if "topics" in recipe.graph() and recipe.languages is None:
            section = recipe.topics
            raw = Path(section.file).read_bytes()
            read = read_topics(raw, max_levels=section.max_levels, max_characters=section.max_characters).topics
            found.append(("topics", "topics.file", [topic.topic for topic in read[:1000]]))
    except (RecipeError, TopicError, OSError):
        return found  # probes of their own report these
    return found
