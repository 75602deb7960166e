"""Corpora as people have them: folders of files, tables, and what of them is refused with which reason."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from resources.inputs.corpus_files import Bounds, Columns, Reading, corpus_digest, read_corpus
from resources.inputs.document_formats import read_html, read_markdown
from speed_assets.recipe import RecipeError

COLUMNS = Columns()
BOUNDS = Bounds(file_megabytes=1, documents=100, document_characters=50_000)


def read(path: Path, columns: Columns = COLUMNS, encoding: str = "utf-8", bounds: Bounds = BOUNDS) -> Reading:
    return read_corpus(path, columns, encoding, bounds)


def pdf(text: str) -> bytes:
    """A PDF of one page, as small as they come."""
    stream = f"BT /F1 12 Tf 50 700 Td ({text}) Tj ET".encode()
    parts = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    out, places = b"%PDF-1.4\n", []
    for number, part in enumerate(parts, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, part)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    start = len(out)
    out += b"xref\n0 6\n0000000000 65535 f \n" + table
    return out + b"trailer << /Size 6 /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % start


def test_a_folder_of_every_kind(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.txt").write_text("First paragraph.\n\nSecond one.\n")
    (tmp_path / "b.md").write_text(
        "---\ntitle: 'Handbook'\ndate: 2024-05-01\n---\n# Start\nDo *this* now.\n\n```\ncode\n```\n"
    )
    (tmp_path / "sub" / "c.html").write_text(
        "<title>Page</title><nav>Home</nav><h1>Page</h1><h2>Use</h2><p>Turn it <b>on</b>.</p><ul><li>One</li></ul>"
        "<script>x()</script><footer>Imprint</footer>"
    )
    (tmp_path / "d.pdf").write_bytes(pdf("Hello from a page."))
    (tmp_path / "e.jsonl").write_text(json.dumps({"id": "j1", "title": "Row", "text": "From a row."}) + "\n")
    (tmp_path / ".hidden.txt").write_text("no")
    found = read(tmp_path)
    by_id = {document.document_id: document for document in found.documents}
    assert list(by_id) == ["a.txt", "b.md", "d.pdf", "j1", "sub/c.html"]
    assert [block.text for block in by_id["a.txt"].blocks] == ["First paragraph.", "Second one."]
    assert (by_id["b.md"].title, by_id["b.md"].date) == ("Handbook", "2024-05-01")
    assert [(block.text, block.heading) for block in by_id["b.md"].blocks] == [
        ("Start", 1),
        ("Do this now.", 0),
        ("code", 0),
    ]
    assert [(b.text, b.heading) for b in by_id["sub/c.html"].blocks] == [("Use", 2), ("Turn it on.", 0), ("One", 0)]
    assert by_id["d.pdf"].blocks[0].text == "Hello from a page."
    assert by_id["j1"].file == "e.jsonl"
    assert not found.refused


@pytest.mark.parametrize("kind", ["jsonl", "csv", "tsv", "parquet"])
def test_tables_with_columns_of_other_names(tmp_path: Path, kind: str) -> None:
    rows = [
        {"nr": "1", "head": "One", "abstract": "The first.", "body": "Its body."},
        {"nr": "2", "head": "Two", "abstract": "The second.", "body": "x" * 200_000 + " long"},
        {"nr": "1", "head": "Again", "abstract": "Same id.", "body": "b"},
        {"nr": "3", "head": "Empty", "abstract": "", "body": ""},
    ]
    file = tmp_path / f"corpus.{kind}"
    if kind == "jsonl":
        file.write_bytes(b"\xef\xbb\xbf" + "".join(json.dumps(row) + "\n" for row in rows).encode())
    elif kind == "parquet":
        pl.DataFrame(rows).write_parquet(file)
    else:
        mark, separator = b"\xef\xbb\xbf", "," if kind == "csv" else "\t"
        lines = [separator.join(rows[0]), *(separator.join(row.values()) for row in rows)]
        file.write_bytes(mark + "\n".join(lines).encode())
    columns = Columns(text=("abstract", "body"), id="nr", title="head")
    bounds = Bounds(file_megabytes=1, documents=10, document_characters=1_000_000)
    found = read(file, columns, bounds=bounds)
    assert [(d.document_id, d.title) for d in found.documents] == [("1", "One"), ("2", "Two")]
    assert [block.text for block in found.documents[0].blocks] == ["The first.", "Its body."]
    assert [(piece.document_id, piece.reason) for piece in found.refused] == [("1", "duplicate_id"), ("3", "no_text")]


def test_rows_without_ids_are_named_by_their_content(tmp_path: Path) -> None:
    file = tmp_path / "corpus.jsonl"
    file.write_text('{"text": "b"}\n{"text": "a"}\n')
    first = {document.document_id for document in read(file).documents}
    file.write_text('{"text": "a"}\n{"text": "b"}\n')
    assert {document.document_id for document in read(file).documents} == first


def test_what_cannot_be_read_costs_itself_alone(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.txt").write_text("never read")
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "good.txt").write_text("Good.")
    (folder / "latin.txt").write_bytes("Grün".encode("latin-1"))
    (folder / "nul.txt").write_bytes(b"a\0b")
    (folder / "empty.txt").write_text(" \n")
    (folder / "large.txt").write_text("x" * 1_100_000)
    (folder / "long.txt").write_text("x" * 60_000)
    (folder / "not.pdf").write_text("no pdf")
    (folder / "table.csv").write_text("a,b\n1,2\n")
    (folder / "broken.jsonl").write_text("{")
    (folder / "image.png").write_bytes(b"x")
    (folder / "link.txt").symlink_to(outside / "secret.txt")
    (folder / "linked").symlink_to(outside)
    found = read(folder)
    assert [document.document_id for document in found.documents] == ["good.txt"]
    reasons = {piece.file: piece.reason for piece in found.refused}
    assert reasons == {
        "latin.txt": "unreadable", "nul.txt": "unreadable", "empty.txt": "no_text", "large.txt": "too_large",
        "long.txt": "too_large", "not.pdf": "unreadable", "table.csv": "unreadable", "broken.jsonl": "unreadable",
        "image.png": "unknown_kind", "link.txt": "link", "linked": "link",
    }  # fmt: skip
    details = {piece.file: piece.detail for piece in found.refused}
    assert "byte 0xfc at 2 is not utf-8: save the file as UTF-8, or set the field `encoding`" in details["latin.txt"]
    assert "no column text: it has a, b (see corpus.columns.text)" in details["table.csv"]
    (folder / "good.txt").write_bytes("Grün".encode("latin-1"))
    assert read(folder, encoding="latin-1").documents[0].blocks[0].text == "Grün"


def test_a_list_of_strings_is_paragraphs_and_other_values_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Good.")
    tables = {
        "list": pl.Series([["One.", None, "Two."], []], dtype=pl.List(pl.String)),
        "number": pl.Series([1, 2]),
        "binary": pl.Series([b"One.", b"Two."]),
        "struct": pl.Series([{"a": "One."}, {"a": "Two."}]),
        "numbers": pl.Series([[1], [2]]),
    }
    for name, texts in tables.items():
        pl.DataFrame({"id": [f"{name}{n}" for n in range(2)], "text": texts}).write_parquet(
            tmp_path / f"{name}.parquet"
        )
    pl.DataFrame({"id": [b"1"], "text": ["One."]}).write_parquet(tmp_path / "id.parquet")
    found = read(tmp_path)
    blocks = {document.document_id: [block.text for block in document.blocks] for document in found.documents}
    assert blocks == {"a.txt": ["Good."], "list0": ["One.", "Two."], "number0": ["1"], "number1": ["2"]}
    details = {piece.document_id: piece.detail for piece in found.refused}
    assert set(details) == {"list1", "binary.parquet", "struct.parquet", "numbers.parquet", "id.parquet"}
    assert details["binary.parquet"].startswith("column text holds Binary, and a text is a string or a list of strings")
    assert details["struct.parquet"].startswith("column text holds Struct(")
    assert details["id.parquet"] == ("column id holds Binary, which is no id: name another column in corpus.columns.id")


def test_a_broken_line_costs_itself_alone(tmp_path: Path) -> None:
    lines = [
        '{"id": "1", "text": "One."}', '{"id": "2", "text": "Two."', "", '["3"]', '{"id": "4", "text": ["Four.", "And more."]}',
        '{"id": "5", "text": {"a": 1}}', '{"id": "6", "text": "\\ud800"}', '{"id": "7", "text": "Seven.", "more": {"a": 1}}',
        '{"id": "8", "text": "[Eight.]", "more": 1}', '{"id": "9", "text": NaN}',
    ]  # fmt: skip
    file = tmp_path / "corpus.jsonl"
    file.write_text("\r\n".join(lines))
    found = read(file)
    blocks = {document.document_id: [block.text for block in document.blocks] for document in found.documents}
    assert blocks == {"1": ["One."], "4": ["Four.", "And more."], "7": ["Seven."], "8": ["[Eight.]"]}
    assert {piece.reason for piece in found.refused} == {"unreadable"}
    details = sorted(piece.detail.split(":")[0] for piece in found.refused)
    assert details[0].startswith("line 10 cannot be read (NaN is no number")
    assert details[1].startswith("line 2 is no JSON (Expecting ',' delimiter at its character 27)")
    assert details[2] == "line 4 is no JSON object, and each line is to be one row"
    assert details[3].startswith("line 7 cannot be read")
    assert details[4] == "row 3"
    assert [piece.text for piece in found.refused if piece.detail.startswith("line 2 ")] == [lines[1]]
    file.write_text("\n".join([lines[0], lines[4], lines[5]]))
    assert [document.document_id for document in read(file).documents] == ["1", "4"], (
        "though polars reads all as strings"
    )


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        (
            "a.csv",
            'id,text\n1,"One,\nof two lines"\n2,Two, and more\n',
            "line 4 has 3 fields, and the first line names 2",
        ),
        ("a.tsv", 'id\ttext\n1\t"One\n2\tTwo\tthree\tfour\n', "line 3 has 4 fields, and the first line names 2"),
        ("a.csv", 'id,text\n1,One\n2,"Two\n3,Three\n', "the row at line 3 cannot be read"),
        ("a.csv", "id,text\n1," + "x" * 200_000 + "\n2,Two,three\n", "line 3 has 3 fields"),
    ],
)
def test_a_table_with_a_broken_row_names_its_line(tmp_path: Path, name: str, content: str, expected: str) -> None:
    (tmp_path / "good.txt").write_text("Good.")
    (tmp_path / name).write_text(content)
    (refused,) = read(tmp_path).refused
    assert (refused.file, refused.reason) == (name, "unreadable")
    assert refused.detail.startswith(expected)


@pytest.mark.parametrize("content", [None, "", "x.png"])
def test_a_corpus_without_a_document_is_refused(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "corpus"
    if content is not None:
        path.mkdir()
        (path / (content or "a.txt")).write_text("")
    with pytest.raises(RecipeError, match=r"corpus.path: (there is no file or folder|no document below)"):
        read(path)


def test_more_documents_than_allowed_are_refused(tmp_path: Path) -> None:
    for number in range(4):
        (tmp_path / f"{number}.txt").write_text(f"Text {number}.")
    with pytest.raises(RecipeError, match=r"more than 3 documents: raise corpus.documents_max"):
        read(tmp_path, bounds=Bounds(1, 3, 100))


def test_the_digest_is_that_of_names_and_content(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("One.")
    first = corpus_digest(tmp_path)
    (tmp_path / "a.txt").write_text("Two.")
    second = corpus_digest(tmp_path)
    (tmp_path / "a.txt").rename(tmp_path / "b.txt")
    third = corpus_digest(tmp_path)
    assert len({first, second, third}) == 3
    (tmp_path / "link.txt").symlink_to(next(tmp_path.iterdir()))
    assert corpus_digest(tmp_path) != third, "the quarantine of passages names the link"
    (tmp_path / "link.txt").unlink()
    assert corpus_digest(tmp_path) == third


def test_deep_html_and_markdown_with_html_do_not_break(tmp_path: Path) -> None:
    deep = "<div>" * 3000 + "text" + "</div>" * 3000
    (tmp_path / "a.txt").write_text("Good.")
    (tmp_path / "deep.html").write_text(deep)
    found = read(tmp_path)
    assert len(found.documents) + len(found.refused) == 2
    blocks = read_markdown("# T\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n<p>In HTML</p>\n\n- item\n").blocks
    assert [block.text for block in blocks] == ["a", "b", "1", "2", "In HTML", "item"]
    assert read_html("just words").blocks[0].text == "just words"
