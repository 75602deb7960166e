"""Documents, tables and examples of a corpus as nobody should have them: each costs itself alone, in bounded time and memory.

Belongs here: hostile files of a corpus. Not here: what good files say (`tests/test_corpus_files.py`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from resources.inputs.corpus_files import Bounds, Columns, Reading, corpus_digest, read_corpus
from resources.inputs.document_formats import read_html
from resources.inputs.evaluation_sets import check_folder, local_texts
from speed_assets.recipe import RecipeError

BOUNDS = Bounds(20, 1_000, 2_000_000)
REFUSED: dict[str, bytes] = {
    "deep.jsonl": b'{"text":' + b"[" * 100_000,
    "nan.jsonl": b'{"text":NaN}',
    "digits.jsonl": b'{"text":' + b"9" * 6_000 + b"}",
    "cut.jsonl": b'{"text":"a',
    "quote.csv": b'text\n"' + b"a" * 1_000_000,
    "columns.csv": b",".join(b"c%d" % n for n in range(20_000)) + b"\n",
    "escape.csv": b"\x1b[31m,b\n1,2\n",
    "nul.tsv": b"text\na\0b\n",
    "none.parquet": b"PAR1" + b"\0" * 40 + b"PAR1",
    "empty.parquet": b"",
    "none.pdf": b"%PDF-1.4\n" + b"obj " * 1_000,
    "nul.txt": b"a\0b",
    "latin.txt": b"Caf\xe9",
    "blank.md": b">" * 10_000,
    "large.txt": b"word " * 600_000,
    "program.exe": b"MZ",
    "archive.zip": b"PK\x03\x04",
}
LONG: dict[str, str] = {
    "quotes.md": ">" * 50_000 + " a",
    "brackets.md": "[" * 50_000,
    "links.md": "[a](b" * 20_000,
    "deep.html": "<div>" * 30_000 + "text",
    "open.html": "<p>" * 8_000 + "text",
    "items.html": "<li>a" * 8_000,
    "inline.html": "<b>a" * 8_000,
    "breaks.html": "<p>" + "a<br>" * 20_000,
    "tags.html": "<" * 200_000,
    "entities.html": "&" * 200_000 + "text",
}


def read(folder: Path, columns: Columns = Columns()) -> Reading:  # noqa: B008 - frozen
    (folder / "good.txt").write_text("a good text")
    started = time.process_time()
    corpus_digest(folder)
    reading = read_corpus(folder, columns, "utf-8", BOUNDS)
    assert time.process_time() - started < 5, "seconds of CPU"
    assert "good.txt" in {document.document_id for document in reading.documents}
    return reading


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_cannot_be_read_costs_itself_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(REFUSED[name])
    reading = read(tmp_path)
    assert [lost.file for lost in reading.refused] == [name]
    assert len(reading.refused[0].detail) < 300_000
    assert "\n" not in reading.refused[0].detail


@pytest.mark.parametrize("name", LONG)
def test_no_document_takes_long(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(LONG[name])
    reading = read(tmp_path)
    assert len(reading.documents) + len(reading.refused) == 2


def _names(folder: Path) -> None:
    (folder / os.fsdecode(b"\xff.txt")).write_text("text")


def _pipe(folder: Path) -> None:
    os.mkfifo(folder / "pipe.txt")


def _links(folder: Path) -> None:
    (folder / "zero.txt").symlink_to("/dev/zero")
    (folder / "up").symlink_to("..")
    (folder / "loop").symlink_to("loop")


def _bomb(folder: Path) -> None:
    pl.select(pl.repeat("x" * 1_000, 900_000).alias("text")).write_parquet(folder / "bomb.parquet")


@pytest.mark.parametrize("change", [_names, _pipe, _links, _bomb], ids=lambda change: change.__name__)
def test_what_is_no_document_is_refused(tmp_path: Path, change: Callable[[Path], None]) -> None:
    change(tmp_path)
    reading = read(tmp_path)
    assert len(reading.documents) == 1
    assert reading.refused
    for lost in reading.refused:
        assert lost.file.encode()


def test_a_table_of_too_many_rows_names_the_field(tmp_path: Path) -> None:
    pl.select(pl.repeat("x", 1_001).alias("text")).write_parquet(tmp_path / "a.parquet")
    with pytest.raises(RecipeError, match=r"corpus\.documents_max"):
        read_corpus(tmp_path, Columns(), "utf-8", BOUNDS)


def test_a_small_table_of_one_long_text_is_refused(tmp_path: Path) -> None:
    """30 KB of it would be 9 GB of texts, and a run would end for lack of memory after all was generated."""
    (tmp_path / "set").mkdir()
    pl.select(pl.repeat("x" * 10_000, 900_000).alias("text")).write_parquet(tmp_path / "set" / "more.parquet")
    for check in (lambda: local_texts([str(tmp_path / "set")]), lambda: check_folder(str(tmp_path / "set"), ())):
        with pytest.raises(RecipeError, match="times the size"):
            check()


@pytest.mark.parametrize(
    ("text", "expected"),
    [("<p>a</p><p>b</p>", ["a", "b"]), ("<ul><li>a<ul><li>b</li></ul></li><li>c</li></ul>", ["a", "b", "c"]),
     ("<table><tr><td><p>x</p></td><td>y</td></tr></table>", ["x", "y"]), ("<h1>t</h1><div>loose<p>in</p>after</div>", ["loose", "in", "after"]),
     ("<blockquote>a</blockquote><pre>b</pre>", ["a", "b"]), ("<p>a<b>c</b></p>", ["ac"]),
     ("<p>a<p>b<p>c", ["a", "b", "c"]), ("<ul><li>a <i>x</i> y<li>b<li>c</ul>", ["a x y", "b", "c"]),
     ("<dl><dt>a<dd>b<dt>c<dd>d</dl>", ["a", "b", "c", "d"]), ("<div>a</div><div>b</div>", ["a", "b"]), ("<p>a<!-- no --></p>", ["a"]),
     ("<p>a<br>b<br/>c</p>", ["a\nb\nc"]), ("a<br>b", ["a\nb"])],
)  # fmt: skip
def test_every_text_of_a_page_is_in_a_block(text: str, expected: list[str]) -> None:
    assert [block.text for block in read_html(text).blocks] == expected
