"""Whether the user's documents can be read, and whether rules would reject what is written about texts of their languages.

Belongs here: documents, and the languages of documents, examples and topics. Not here: topics, examples and evaluation sets as files
(`input_probes.py`).
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from resources.inputs.corpus_files import TABLES, Bounds, Columns, corpus_files, read_file
from resources.inputs.example_files import read_examples
from resources.inputs.hub_datasets import dataset_folder
from speed_assets.domain.given_texts import fitting_sentences
from speed_assets.domain.language import known_languages, other_language_probability
from speed_assets.domain.passages import Dropped
from speed_assets.domain.rules.expressions import has_other_script
from speed_assets.domain.topics import TopicError, read_topics
from speed_assets.orchestration.doctor.finding import Finding, error, ok, warning
from speed_assets.orchestration.doctor.hub_probes import hub_dataset
from speed_assets.recipe import RULED, Corpus, Recipe, RecipeError, Rules

FILES_READ = 40
"""Files of a corpus that are read, spread over their names: a probe takes seconds (ours)."""
DOCUMENTS_READ = 5
"""Documents of one file."""
MEGABYTES_READ = 5.0
"""Larger files are not opened by a probe."""
CHARACTERS_READ = 2000
NAMED, REASON = 3, 120
"""Files that cannot be read which a finding names, and characters of each reason."""
MEGABYTES_SEARCHED = 20.0
"""Of tables together, in which ids of `corpus.forget` are looked for."""
ALIKE, IDS_COMPARED = 3, 20_000
"""How many characters longer or shorter an id may be to be called near, and the ids that are compared."""
WARNED_FROM = 0.1
"""Share of texts in other languages from which on there is a warning (ours)."""


def corpus(recipe: Recipe, *, network: bool = False) -> list[Finding]:
    """There are documents, those that are tried can be read, and they have sentences where STS rows are written from some.

    Args:
        recipe: to be looked at.
        network: whether a hub may be asked for a data set.
    """
    section = recipe.corpus
    if section is None:
        return []
    places = {"corpus.path": section.path, "corpus.alignment": section.alignment}
    if gone := [(field, place) for field, place in places.items() if place and not Path(place).exists()]:
        return [error("corpus", f"there is no file or folder {place}", field) for field, place in gone]
    try:
        folder = _place(section)
    except RecipeError as problem:
        return [error("corpus", str(problem), "corpus.dataset.name")]
    if folder is None:
        assert section.dataset is not None
        return [hub_dataset(section, section.dataset, network=network)]
    tried = _tried(section, folder)
    if section.dataset is not None and not tried.files:
        return [ok("corpus", f"{folder.name}: a data set on this machine, whose columns are seen when it is loaded")]
    if not tried.documents and tried.refused:
        words = f"none of {len(tried.refused)} files tried can be read as documents{_named(tried)}"
        says = error if tried.files == tried.files_tried else warning  # files that were not tried may hold all there is
        return [says("corpus", words, f"{_field(section)}, corpus.columns"), *_forgotten(section, folder)]
    all_tried = tried.documents + len(tried.refused)
    words = f"{tried.files:,} files; of {all_tried:,} documents and files tried {len(tried.refused):,} cannot be read{_named(tried)}"
    if (
        section.dataset is None and len(tried.refused) > WARNED_FROM * all_tried
    ):  # files of other splits may lack columns
        mend = "corpus.encoding, corpus.columns; the quarantine of passages has each"
        return [warning("corpus", words, mend), *_forgotten(section, folder)]
    return [ok("corpus", words), *_sentences(recipe, tried.texts), *_forgotten(section, folder)]


def _place(section: Corpus) -> Path | None:
    """Where the documents are on this machine; None for a data set of a hub. Raises RecipeError where a data set's folder is not there."""
    return Path(str(section.path)) if section.dataset is None else dataset_folder(section.dataset)


def _field(section: Corpus) -> str:
    return "corpus.path" if section.dataset is None else "corpus.dataset"


def _files(section: Corpus, path: Path) -> list[Path]:
    """The files that are tried: of a data set its tables, as the library reads other files in other ways."""
    files = corpus_files(path)
    return [one for one in files if section.dataset is None or (one.suffix.lower() in TABLES and not one.is_symlink())]


def _named(tried: _Tried) -> str:
    """The first that cannot be read, with their reasons, and whether others were not tried."""
    named = "; ".join(f"{piece.file}: {piece.detail[:REASON]}" for piece in tried.refused[:NAMED])
    further = len(tried.refused) - NAMED
    words = f": {named}" + (f"; and {further:,} more" if further > 0 else "") if named else ""
    left = tried.files - tried.files_tried
    return words + (f" (a sample: {left:,} of the files were not tried)" if left else "")


def _forgotten(section: Corpus, path: Path) -> list[Finding]:
    """A warning for each id in `corpus.forget` that no document has: it may be gone, or be written otherwise."""
    if not section.forget:
        return []
    known, left = document_ids(section, path)
    found = []
    for one in section.forget:
        if one in known:
            continue
        alike = [name for name in sorted(known) if abs(len(name) - len(one)) <= ALIKE][:IDS_COMPARED]
        near = difflib.get_close_matches(one, alike, 1)
        words = f"corpus.forget names {one!r}, and no document has this id now"
        words += f"; {near[0]!r} is the nearest that one has" if near else ""
        words += f" ({left} tables were not searched)" if left else ""
        found.append(warning("corpus", words, f"corpus.forget, unless the document is gone from {_field(section)}"))
    return found


def document_ids(section: Corpus, path: Path) -> tuple[set[str], int]:
    """(ids of documents, as far as files are small enough to be looked into; tables that are not)."""
    found: set[str] = set()
    left = 0
    budget = MEGABYTES_SEARCHED * 1_000_000
    for file in _files(section, path):
        name = file.relative_to(path).as_posix() if path.is_dir() else file.name
        if file.suffix.lower() not in TABLES or file.is_symlink() or not file.is_file():
            found.add(name)
            continue
        budget -= file.stat().st_size
        if budget < 0:
            left += 1
            continue
        try:
            reading = read_file(file, name, *_how(section, MEGABYTES_SEARCHED))
        except (RecipeError, OSError):
            left += 1
            continue
        found |= {document.document_id for document in reading.documents}
        found |= {piece.document_id for piece in reading.refused}
    return found, left


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
    for name, named_in, texts in _texts(recipe):
        others = foreign(texts, rules)
        if texts and others > WARNED_FROM * len(texts):
            words = (
                f"{others} of {len(texts)} {name} are in other languages or scripts than "
                f"final_triplets.rules.languages ({', '.join(rules.languages)}): rows in these languages are rejected"
            )
            change = "languages" if recipe.languages else "final_triplets.rules.languages, and other rules"
            found.append(warning("languages", words, f"{change}; or {named_in}"))
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


@dataclass
class _Tried:
    """What was tried of a corpus: all of a small one."""

    files: int = 0
    files_tried: int = 0
    documents: int = 0
    texts: list[str] = field(default_factory=list)
    """Beginnings of some documents of each file."""
    refused: list[Dropped] = field(default_factory=list)


def _tried(section: Corpus, path: Path) -> _Tried:
    files = _files(section, path)
    found = _Tried(files=len(files))
    for file in files[:: max(1, len(files) // FILES_READ)][:FILES_READ]:
        name = file.relative_to(path).as_posix() if path.is_dir() else file.name
        if file.is_file() and file.stat().st_size > MEGABYTES_READ * 1_000_000:
            continue
        found.files_tried += 1
        try:
            reading = read_file(file, name, *_how(section, MEGABYTES_READ))
        except (RecipeError, OSError) as problem:
            found.refused.append(Dropped(name, name, "unreadable", str(problem), ""))
            continue
        found.refused += reading.refused
        found.documents += len(reading.documents)
        for document in reading.documents[:DOCUMENTS_READ]:
            found.texts.append("\n".join(block.text for block in document.blocks)[:CHARACTERS_READ])
    return found


def _how(section: Corpus, megabytes: float) -> tuple[Columns, str, Bounds]:
    """How the recipe reads files, but no larger ones."""
    bounds = Bounds(megabytes, section.documents_max, section.document_characters_max)
    encoding = section.encoding if section.dataset is None else "utf-8"
    return Columns(**section.columns.model_dump()), encoding, bounds


def _texts(recipe: Recipe) -> list[tuple[str, str, list[str]]]:
    """(what they are, where they are named, texts) of everything that rows are written about."""
    found: list[tuple[str, str, list[str]]] = []
    try:
        folder = _place(recipe.corpus) if recipe.corpus is not None else None
        if recipe.corpus is not None and folder is not None and folder.exists():
            found.append(("documents read", _field(recipe.corpus), _tried(recipe.corpus, folder).texts))
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
