"""Topic files and evaluation folders as people have them, and as nobody should.

Belongs here: data that users bring. Not here: settings (`test_recipes.py`).
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from resources.inputs.enough_topics import topic_counts
from resources.inputs.evaluation_sets import check_folder, local_texts
from resources.inputs.external_digests import external_digest
from resources.store.manifests import file_digest
from speed_assets.cli import main
from speed_assets.domain.fingerprints import digest
from speed_assets.domain.topics import TopicError, read_topics, special_form
from speed_assets.recipe import RECIPES, RecipeError, load_recipe, parse_recipe
from tests.support.small import small_data

TABLES: dict[str, tuple[bytes, list[str]]] = {
    "one column": (b"topic\nViolins\nCellos\n", ["Violins", "Cellos"]),
    "one column, BOM": (b"\xef\xbb\xbfTopic\r\nViolins\r\n", ["Violins"]),
    "CSV": (b"path,count\nArts/Music,3\n\"Violins, cellos\",4\n", ["Arts/Music", "Violins, cellos"]),
    "CSV, quoted header": (b'"id","topic"\n1,"Tea"\n', ["Tea"]),
    "CSV, doubled quotes": (b'topic,n\n"a ""b"" c",1\n', ['a "b" c']),
    "semicolons": (b"topic;lang\nViolins;en\n", ["Violins"]),
    "quoted TSV": (b'topic\tn\n"Violins"\t1\n"a\tb"\t2\nTea\t3\n', ["Violins", "Tea"]),
    "plain TSV": (b"id\ttopic\n1\tTea\n", ["Tea"]),
    "gzip": (gzip.compress(b"Violins\nCellos\n"), ["Violins", "Cellos"]),
    "gzip of CSV": (gzip.compress(b"topic,n\nViolins,1\n"), ["Violins"]),
    "hashtag": (b"# a comment\n#MeToo\n#\n#another comment\nTea\n", ["#MeToo", "Tea"]),
    "slashes in names": (b"AC/DC\nTCP/IP networking\nViolins\nTea\nCoffee\n", ["AC-DC", "TCP-IP networking", "Violins", "Tea", "Coffee"]),
    "paths": (b"Arts/Music\nArts/Film\nTea\nCoffee\nMilk\nRice\n", ["Arts/Music", "Arts/Film", "Tea", "Coffee", "Milk", "Rice"]),
    "one deep path": (b"Top/Arts/Music\nTea\nCoffee\nMilk\n", ["Arts/Music", "Tea", "Coffee", "Milk"]),
    "level above": (b"Arts\nArts/Music\nTea\nCoffee\nMilk\n", ["Arts", "Arts/Music", "Tea", "Coffee", "Milk"]),
    "arrows": (b"Arts > AC/DC\nTea > Green\n", ["Arts/AC-DC", "Tea/Green"]),
}  # fmt: skip
REFUSED: dict[str, bytes] = {
    "empty": b"",
    "blank": b"\n \n",
    "comments alone": b"# a\n# b\n",
    "header alone": b"topic\n",
    "CSV header alone": b"topic,n\n",
    "NUL": b"a\0b",
    "binary": bytes(range(128, 256)) * 4,
    "cut gzip": gzip.compress(os.urandom(2_000))[:-600],
    "gzip header alone": b"\x1f\x8b",
    "no gzip": b"\x1f\x8bViolins",
    "Latin-1": "é\nü".encode("latin-1") * 3,
    "zip": b"PK\x03\x04" + bytes(range(256)) * 2,
    "control": b"\x01\x02\x03",
}


def topics(raw: bytes) -> list[str]:
    return [topic.topic for topic in read_topics(raw, max_levels=4, max_characters=200).topics]


@pytest.mark.parametrize("kind", TABLES)
def test_topic_files_as_people_have_them(kind: str) -> None:
    raw, expected = TABLES[kind]
    assert topics(raw) == expected


@pytest.mark.parametrize("kind", TABLES)
def test_every_line_is_a_topic_refused_a_comment_or_the_header(kind: str) -> None:
    raw, _ = TABLES[kind]
    reading = read_topics(raw, max_levels=4, max_characters=200)
    lines = gzip.decompress(raw) if raw.startswith(b"\x1f\x8b") else raw
    header = lines.splitlines()[0].lower().strip(b"\xef\xbb\xbf").find(b"topic") >= 0 or lines.startswith(b"path,")
    counted = len(reading.topics) + len(reading.refused) + reading.comments + header
    assert counted == len(lines.splitlines())
    assert f"{reading.comments} comment lines" in reading.summary


@pytest.mark.parametrize("kind", REFUSED)
def test_a_file_without_topics_is_refused(kind: str) -> None:
    with pytest.raises(TopicError) as caught:
        topics(REFUSED[kind])
    assert "\n" not in str(caught.value)


def test_latin_1_gets_a_hint() -> None:
    reading = read_topics(b"Violins\nCaf\xe9\n", max_levels=4, max_characters=200)
    assert "Latin-1" in reading.summary
    with pytest.raises(TopicError, match="Latin-1"):
        topics(b"Caf\xe9\n")


def test_a_gzip_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("speed_assets.domain.topics.BYTES_MAX", 10_000)
    with pytest.raises(TopicError, match="more than 10,000 bytes"):
        topics(gzip.compress(b"a\n" * 1_000_000))


def test_a_file_of_too_many_lines_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("speed_assets.domain.topics.LINES_MAX", 1_000)
    assert len(topics(b"\r\n".join(b"topic %d" % n for n in range(1_000)))) == 1_000
    for end in (b"\n", b"\r\n", b"\r"):
        with pytest.raises(TopicError, match="lines"):
            topics(b"Tea" + end * 1_002 + b"x")


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "absent", "large"])
@pytest.mark.parametrize("field", ["file", "alignment"])
def test_what_is_no_topic_file_is_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, field: str
) -> None:
    """A pipe never ends, and /dev/zero fills the memory."""
    file = tmp_path / "topics.txt"
    if kind == "large":
        monkeypatch.setattr("resources.inputs.topic_files.BYTES_MAX", 100_000)
        file.write_text("Tea\n" * 25_001)
    elif kind == "device":
        file.symlink_to("/dev/zero")
    elif kind != "absent":
        {"pipe": os.mkfifo, "folder": os.mkdir}[kind](file)
    data: Any = small_data()
    for name in ("file", "alignment"):
        data["topics"][name] = str(file if name == field else (RECIPES / "topics.txt").resolve())
    recipe = parse_recipe(data, tmp_path / "x.yaml")
    for read in (lambda: topic_counts(recipe.topics), lambda: external_digest(recipe, "topic_file", None)):
        with pytest.raises(RecipeError, match=rf"topics\.{field}") as caught:
            read()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "field", ["topics.file", "topics.alignment", "prompts.file", "evaluation.local", "--topics", "--home"]
)
def test_a_link_to_itself_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], field: str) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    data: Any = small_data()
    section, _, name = field.partition(".")
    if name:
        data[section] = {**data.get(section, {}), name: [str(loop)] if name == "local" else str(loop)}
    recipe = tmp_path / "x.yaml"
    recipe.write_text(json.dumps(data))
    before, after = ["--home", str(loop)] * (field == "--home"), ["--topics", str(loop)] * (field == "--topics")
    assert main([*before, "plan", "--recipe", str(recipe), *after]) == 2
    shown = capsys.readouterr().err
    assert field in shown
    assert "bug" not in shown


@pytest.mark.parametrize("name", ["offline", "laptop", "gpu", "paper", "teacher_only", "natural"])
def test_fingerprints_of_plain_files_stay(name: str) -> None:
    recipe = load_recipe(name)
    files = {"file": recipe.topics.file, "alignment": recipe.topics.alignment}
    present = {field: Path(file) for field, file in files.items() if file}
    if not all(file.is_file() for file in present.values()):
        pytest.skip("the recipe's topics are the user's")
    before = digest({field: file_digest(file) for field, file in present.items()})
    assert external_digest(recipe, "topic_file", None) == before


@pytest.mark.parametrize("kind", ["one column", "CSV", "quoted TSV", "gzip", "hashtag", "slashes in names"])
def test_a_file_that_is_read_in_another_way_than_before_has_another_fingerprint(kind: str) -> None:
    assert special_form(TABLES[kind][0])


@pytest.mark.parametrize("kind", ["plain TSV", "paths", "one deep path", "level above", "arrows"])
def test_a_file_that_is_read_as_before_keeps_its_fingerprint(kind: str) -> None:
    assert special_form(TABLES[kind][0]) == ""


def _dangling(folder: Path) -> None:
    (folder / "more.jsonl").symlink_to(folder / "absent")


def _loop(folder: Path) -> None:
    (folder / "loop.jsonl").symlink_to(folder / "loop.jsonl")


def _cut(folder: Path) -> None:
    (folder / "more.jsonl.gz").write_bytes(gzip.compress(os.urandom(4_000).hex().encode())[:-900])


def _no_gzip(folder: Path) -> None:
    (folder / "more.tsv.gz").write_text("a\tb\n")


def _deep_json(folder: Path) -> None:
    (folder / "more.json").write_text("[" * 100_000)


def _deep_line(folder: Path) -> None:
    (folder / "more.jsonl").write_text('{"a":' * 50_000)


def _no_json(folder: Path) -> None:
    (folder / "more.jsonl").write_text('{"a": 1}\n{"a":\n')


def _no_utf_8(folder: Path) -> None:
    (folder / "more.csv").write_bytes(b"text\nCaf\xe9\n")


def _no_parquet(folder: Path) -> None:
    (folder / "more.parquet").write_bytes(b"PAR1" + b"\0" * 50 + b"PAR1")


def _empty_parquet(folder: Path) -> None:
    (folder / "more.parquet").write_bytes(b"")


def _long_field(folder: Path) -> None:
    (folder / "more.csv").write_text("text\n" + "x" * 17_000_000 + "\n")


def _long_integer(folder: Path) -> None:
    (folder / "more.json").write_text("1" * 6_000)


def _bomb(folder: Path) -> None:
    (folder / "more.jsonl.gz").write_bytes(gzip.compress(b'{"text": "x"}\n' * 8_000_000, 1))


def _bomb_of_one_line(folder: Path) -> None:
    (folder / "more.tsv.gz").write_bytes(gzip.compress(b"x" * 100_000_000, 1))


def _odd_description(folder: Path) -> None:
    (folder / "task.yaml").write_text("[" * 3_000)


def _named_outside(folder: Path) -> None:
    (folder / "task.yaml").write_text("{name: x, type: STS, splits: {test: ../../etc/passwd}}")


@pytest.mark.parametrize(
    "change",
    [_dangling, _loop, _cut, _no_gzip, _deep_json, _deep_line, _no_json, _no_utf_8, _no_parquet, _empty_parquet, _long_field,
     _bomb, _bomb_of_one_line, _long_integer, _odd_description, _named_outside],
    ids=lambda change: change.__name__,
)  # fmt: skip
def test_evaluation_folders_are_read_to_the_end_at_plan_time(tmp_path: Path, change: Callable[[Path], None]) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "texts.jsonl").write_text('{"text": "a text of the set"}\n')
    data: Any = small_data()
    for name in ("file", "alignment"):
        data["topics"][name] = str((RECIPES / data["topics"][name]).resolve())
    data["evaluation"] = data["evaluation"] | {"local": [str(folder)]}
    recipe = parse_recipe(data, tmp_path / "x.yaml")
    assert external_digest(recipe, "evaluation_texts", None)
    change(folder)
    with pytest.raises(RecipeError) as caught:
        external_digest(recipe, "evaluation_texts", None)
    assert len(str(caught.value)) < 1_000
    assert "\n" not in str(caught.value)


def test_a_small_table_of_too_many_rows_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resources.inputs.evaluation_sets.ROWS_MAX", 1_000)
    pl.select(pl.repeat("x", 1_001).alias("text")).write_parquet(tmp_path / "more.parquet")
    for read in (lambda: local_texts([str(tmp_path)]), lambda: check_folder(str(tmp_path), ())):
        with pytest.raises(RecipeError, match="1,001 rows"):
            read()


def test_packed_text_is_read(tmp_path: Path) -> None:
    lines = "".join(f'{{"text": "text number {n} of a set"}}\n' for n in range(5_000))
    (tmp_path / "more.jsonl.gz").write_bytes(
        b"".join([gzip.compress(lines[:9_000].encode()), gzip.compress(lines[9_000:].encode())])
    )
    check_folder(str(tmp_path), ())
    assert len(next(iter(local_texts([str(tmp_path)]).values()))) == 5_000


def test_a_long_field_is_read(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "texts.csv").write_text("text\n" + "word " * 100_000 + "\n")
    assert len(local_texts([str(tmp_path / "set")])["set"]) == 1
