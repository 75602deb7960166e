# ruff: noqa: RUF001 - sentences in several scripts
"""Documents cut into passages: budgets, headings, sentences of several scripts, boilerplate, no word lost."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speed_assets.domain.passages import (
    Block,
    Cut,
    Document,
    boilerplate_lines,
    cut,
    held_out,
    sentences,
    without_boilerplate,
)


def count(texts: Sequence[str]) -> list[int]:
    """Words, and a token for every third character of a long word."""
    return [sum(1 + len(word) // 12 for word in text.split()) for text in texts]


def document(*blocks: Block, title: str = "Guide") -> Document:
    return Document("d1", "d1.md", title, None, blocks)


PROSE = " ".join(f"Sentence number {n} tells of thing {n}." for n in range(60))


def test_passages_keep_to_the_budget_and_lose_nothing() -> None:
    passages, dropped = cut(document(Block("Intro", 1), Block(PROSE)), Cut(60, 10), count)
    assert not dropped
    assert len(passages) > 3
    assert all(10 <= count([passage.text])[0] <= 60 for passage in passages)
    assert all(passage.text.startswith("Guide > Intro\n") for passage in passages)
    assert " ".join(passage.text.partition("\n")[2] for passage in passages) == PROSE
    assert [passage.place for passage in passages] == list(range(len(passages)))
    sizes = [passage.tokens for passage in passages]
    assert min(sizes) > max(sizes) / 2, "the last one is no rest"


def test_sections_are_cut_at_headings_and_short_ones_go_together() -> None:
    blocks = (Block("A", 1), Block(PROSE[:400]), Block("B", 1), Block("Tiny."), Block("C", 1), Block("Small too."))
    passages, dropped = cut(document(*blocks), Cut(200, 15), count)
    assert not dropped
    assert len(passages) == 1, "two short sections at the end go with the one before"
    assert passages[0].text.startswith("Guide\nA\n")
    assert passages[0].text.endswith("B\nTiny.\nC\nSmall too.")
    blocks = (Block("A", 1), Block("One", 2), Block(PROSE[:400]), Block("Two", 2), Block(PROSE[400:800]))
    first, second = cut(document(*blocks), Cut(200, 15), count)[0]
    assert first.text.startswith("Guide > A > One\n")
    assert second.text.startswith("Guide > A > Two\n")


def test_a_short_document_is_dropped_with_its_reason_and_its_text() -> None:
    passages, dropped = cut(document(Block("Only this.")), Cut(60, 10), count)
    assert not passages
    assert (dropped[0].reason, dropped[0].file, dropped[0].text) == ("too_short", "d1.md", "Only this.")
    assert "corpus.tokens_min is 10" in dropped[0].detail


def test_a_repeated_passage_is_taken_once() -> None:
    text = PROSE[:300]
    passages, dropped = cut(document(Block("A", 1), Block(text), Block("A", 1), Block(text)), Cut(60, 10), count)
    assert len({passage.text for passage in passages}) == len(passages)
    assert {piece.reason for piece in dropped} == {"duplicate"}


def test_ids_follow_from_document_and_text() -> None:
    one, _ = cut(document(Block("A", 1), Block(PROSE)), Cut(60, 10), count)
    more, _ = cut(document(Block("A", 1), Block(PROSE), Block("B", 1), Block(PROSE.upper())), Cut(60, 10), count)
    assert [passage.passage_id for passage in one] == [passage.passage_id for passage in more][: len(one)]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("Dr. Ray saw J. Doe. It was 3.5 m! Really?", ["Dr. Ray saw J. Doe.", "It was 3.5 m!", "Really?"]),
        ("Das ist gut. Über allem.", ["Das ist gut.", "Über allem."]),
        ("猫です。犬です！鳥？", ["猫です。", "犬です！", "鳥？"]),
        ("यह घर है। वह पेड़ है।", ["यह घर है।", "वह पेड़ है।"]),
        ("هل هذا بيت؟ نعم.", ["هل هذا بيت؟", "نعم."]),
        ("Это дом. Там лес.", ["Это дом.", "Там лес."]),
        ("", []),
    ],
)
def test_sentences(text: str, parts: list[str]) -> None:
    assert sentences(text) == parts


def test_text_without_spaces_is_cut_too() -> None:
    def characters(texts: Sequence[str]) -> list[int]:
        return [len(text) for text in texts]

    passages, _ = cut(document(Block("漢" * 1000), title=""), Cut(120, 10), characters)
    assert "".join(dict.fromkeys(passage.text for passage in passages)).count("漢") <= 1000
    assert all(len(passage.text) <= 120 for passage in passages)
    varied = "".join(chr(0x4E00 + n) for n in range(900))
    passages, dropped = cut(document(Block(varied), title=""), Cut(120, 10), characters)
    assert not dropped
    assert "".join(passage.text for passage in passages) == varied


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.text(alphabet="ab .!?\n漢。", max_size=80), st.integers(0, 3)), max_size=12),
    st.integers(4, 60),
)
def test_no_document_breaks_the_budget(parts: list[tuple[str, int]], most: int) -> None:
    blocks = [Block(text, heading) for text, heading in parts]
    passages, _ = cut(document(*blocks), Cut(most, 2), lambda texts: [len(text) for text in texts])
    assert all(len(passage.text) <= most for passage in passages)


def test_lines_that_many_documents_share_are_boilerplate() -> None:
    def page(number: int) -> Document:
        text = f"ACME manual\nPage {number} of 9\nSomething of its own, number {'x' * number}."
        return Document(f"d{number}", f"{number}.txt", "", None, (Block(text), Block("All rights reserved.")))

    pages = [page(number) for number in range(1, 10)]
    lines = boilerplate_lines(pages, 0.5, 5)
    assert lines == {"acme manual", "page 0 of 0", "all rights reserved."}
    cleaned, taken = without_boilerplate(pages[0], lines)
    assert [block.text for block in cleaned.blocks] == ["Something of its own, number x."]
    assert [piece.text for piece in taken] == ["ACME manual", "Page 1 of 9", "All rights reserved."]
    assert {piece.reason for piece in taken} == {"boilerplate"}
    assert not boilerplate_lines(pages[:3], 0.5, 5), "of three documents nothing is boilerplate"


def test_documents_are_held_out_by_their_ids() -> None:
    ids = [f"doc{number}" for number in range(2000)]
    kept = [one for one in ids if held_out(one, 1, 0.1)]
    assert 150 < len(kept) < 250
    assert kept == [one for one in reversed(ids) if held_out(one, 1, 0.1)][::-1]
    assert not any(held_out(one, 1, 0) for one in ids)
    assert all(held_out(one, 1, 1) for one in ids)
