"""Recipes, prompt files and task descriptions gone wrong: each is refused in one message, within a second or two.

Belongs here: YAML, sizes, paths and numbers of files that are read as settings. Not here: topics and evaluation data.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from resources.inputs.prompt_files import prompt_set
from speed_assets.cli import main
from speed_assets.domain.bounded_yaml import BYTES_MAX, YamlProblem, read_yaml_text
from speed_assets.domain.evaluation_folders import read_description
from speed_assets.recipe import Prompts, RecipeError, load_recipe, parse_recipe
from tests.support.small import small_data

BOMB = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join(f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 9))
YAML = {
    "unhashable key": "? [a]\n: b",
    "template": "name: {{ env }}",
    "brackets": "[" * 3_000,
    "many brackets": "[" * 200_000,
    "braces": "{a: " * 3_000,
    "many braces": "{a: " * 50_000,
    "dashes": "- " * 20_000,
    "nested keys": "".join(" " * level + "a:\n" for level in range(300)),
    "long integer": "seed: " + "1" * 5_000,
    "hexadecimal": "seed: 0x" + "f" * 5_000,
    "alias bomb": BOMB,
    "merge bomb": "a: &a {x: 1}\n" + "b: {<<: [" + ",".join(["*a"] * 60_000) + "]}",
    "list of itself": "&a [*a]",
    "map of itself": "x: &a {<<: *a}",
    "doubled key": "a: 1\na: 2",
    "doubled key deep": "a: {b: 1, b: 2}",
    "NUL": "a\0b",
    "escape": "a: \x1b[31m",
    "object": "!!python/object/apply:os.system [id]",
    "tag": "!mine x",
    "octal": "seed: 010",
    "sexagesimal": "seed: 1:30",
    **{f"word {word}": f"a: {word}" for word in ("yes", "No", "ON", "off", "[x, no]", "{no: 1}")},
    "sexagesimal fraction": "seed: 1:30.5",
    "no date": "a: 2024-13-45",
    "binary": "!!binary x",
    "tab": "\ta: b",
    "no integer": "!!int abc",
    "unknown alias": "*a",
    "open quote": 'a: "',
    "two documents": "a: 1\n---\nb: 2",
    "colon": "a: b: c",
    "percent": "%x",
    "huge": "a: " + "x" * BYTES_MAX,
    "huge comment": "#" * (BYTES_MAX + 1),
    "surrogate": "a: \ud800",
    "half a character": 'a: "\\ud800"',
    "two halves": 'a: "\\ud83d\\ude00"',
    "half a key": '"\\udc00": 1',
}
SHAPES = ("", "null", "[]", "[1]", "5", "text", "true", "---", "2024-01-01", "{}", "name: x")


@pytest.mark.parametrize("kind", YAML)
def test_yaml_is_refused_in_one_line_and_soon(kind: str) -> None:
    started = time.process_time()
    with pytest.raises(YamlProblem) as caught:
        read_yaml_text(YAML[kind])
    assert time.process_time() - started < 2, "seconds of CPU"
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("kind", [kind for kind in YAML if kind != "surrogate"])
def test_every_reader_of_yaml_has_these_bounds(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "odd.yaml"
    file.write_text(YAML[kind])
    with pytest.raises(RecipeError):
        load_recipe(file)
    with pytest.raises(RecipeError):
        prompt_set(Prompts(set="full", file=str(file)))
    with pytest.raises(YamlProblem):
        read_description(YAML[kind])


@pytest.mark.parametrize("text", SHAPES)
def test_a_file_of_another_shape_is_no_recipe(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("SPEED_HOME", str(tmp_path / "home"))
    (tmp_path / "odd.yaml").write_text(text)
    assert main(["plan", "--recipe", str(tmp_path / "odd.yaml")]) == 2
    assert capsys.readouterr().err.startswith("error: ")


@pytest.mark.parametrize("raw", [b"\xff\xfe\x00", b"\x80", b"a: \xe9", bytes(range(256))], ids=str)
def test_what_is_no_utf_8_is_no_recipe(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "odd.yaml").write_bytes(raw)
    with pytest.raises(RecipeError):
        load_recipe(tmp_path / "odd.yaml")


def test_merge_keys_work() -> None:
    assert read_yaml_text("b: &b {x: 1, y: 1}\nc: {<<: *b, x: 2}")["c"] == {"x": 2, "y": 1}


PATHS: list[Any] = [
    "a\0b",
    "x" * 5_000,
    "x/" * 3_000,
    5,
    None,
    [],
    {},
    True,
    "",
    "/dev/zero",
    "/etc/passwd/x",
    "\udcff",
    "\ud800",
]


@pytest.mark.parametrize("value", PATHS, ids=lambda value: ascii(value)[:20])
@pytest.mark.parametrize("field", ["topics.file", "topics.alignment", "prompts.file", "evaluation.local"])
def test_odd_paths_end_in_one_message(tmp_path: Path, field: str, value: Any) -> None:
    section, name = field.split(".")
    data = small_data()
    data[section] = data[section] | {name: [value] if name == "local" else value}
    try:
        recipe = parse_recipe(data, tmp_path / "x.yaml")
        from resources.inputs.external_digests import external_digest

        external_digest(recipe, "topic_file", None)
        prompt_set(recipe.prompts)
        external_digest(recipe, "evaluation_texts", None)
    except RecipeError as error:
        message = str(error)
    else:
        message = ""  # a path that the system can have
    assert len(message) < 1_500


NUMBERS: list[Any] = [10**30, 10**18, -1, 1.5, "x", None, [], 1e308, float("inf"), float("nan"), True]


@pytest.mark.parametrize("value", NUMBERS, ids=lambda value: str(value)[:12])
@pytest.mark.parametrize(
    "field",
    ["seed_data.rows.sts", "senior_model.epochs", "embedding_model.dimensions", "topics.limit", "calls.attempts"],
)
def test_numbers_have_a_sane_maximum(tmp_path: Path, field: str, value: Any) -> None:
    data: Any = small_data()
    *sections, name = field.split(".")
    part = data
    for section in sections:
        part[section] = dict(part.get(section) or {})
        part = part[section]
    part[name] = value
    if (name in ("limit", "dimensions") and value is None) or (name == "epochs" and value == 1.5):
        return
    started = time.process_time()
    with pytest.raises(RecipeError) as caught:
        parse_recipe(data, tmp_path / "x.yaml")
    assert name in str(caught.value)
    assert len(str(caught.value)) < 1_500
    assert time.process_time() - started < 2, "seconds of CPU"


@pytest.mark.parametrize(
    ("text", "meant"),
    [("12", 12), ("1e1", 10), ("1.5e1", 15), ("'12'", 12), ("1_2", 12), ("12.0", 12), ("0o14", None), ("012", None), ("yes", None),
     ("true", None), ("1:12", None), ("1e-1", None), ("1e99", None), (".inf", None), (".nan", None), ("12k", None), ("~", None), ("0x0C", 12)],
)  # fmt: skip
def test_a_number_is_what_was_meant_or_refused(tmp_path: Path, text: str, meant: int | None) -> None:
    from tests.support.small import write_recipe

    data: Any = small_data()
    data["topics"]["at_least"] = "THE_NUMBER"
    file = write_recipe(tmp_path, data)
    assert "at_least: THE_NUMBER" in file.read_text()
    file.write_text(file.read_text().replace("at_least: THE_NUMBER", f"at_least: {text}"))
    if meant is not None:
        assert load_recipe(file).topics.at_least == meant
        return
    with pytest.raises(RecipeError) as caught:
        load_recipe(file)
    assert "at_least" in str(caught.value) or "line " in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    ["brainstorm: {retrieval: Write tasks}", "synthesis: {sts: 'Write {keys}'}", "judge: {sts: Which is better}", "expand: More topics",
     "revise: {sts: 'Mend it, please'}", "candidate: 'number {number}'", "synthesis: {grounded: Ask something}", "again: once more"],
)  # fmt: skip
def test_a_prompt_without_what_it_asks_about_is_refused(tmp_path: Path, changes: str) -> None:
    (tmp_path / "prompts.yaml").write_text(changes)
    with pytest.raises(RecipeError, match=r"must name \{"):
        prompt_set(Prompts(set="full", file=str(tmp_path / "prompts.yaml")))


def test_ten_million_rows_are_planned_in_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.support.small import ROWS, write_recipe

    monkeypatch.setenv("SPEED_HOME", str(tmp_path / "home"))
    data: Any = small_data()
    data["seed_data"]["rows"] = data["senior_data"]["rows"] = dict.fromkeys(ROWS, 10_000_000)
    file = write_recipe(tmp_path, data)
    started = time.process_time()
    assert main(["plan", "--recipe", str(file), "--json"]) == 0
    assert time.process_time() - started < 10, "seconds of CPU"
    assert "does not look up which are answered" in capsys.readouterr().out


ENDPOINTS = (
    "https://ho st/v1", "https://host/\r\nX: y", "https://host/v1\n", " https://host/v1", "https://host/\x1b[31m", "https://host/\u202e",
    "not a url", "ftp://host/v1", "file:///etc/passwd", "http://[::1", "http://", "https://user:pw@host/v1",
    "https://host/v1?api_key=sk-PLANTED", "https://host/v1#sk-PLANTED", "http://host:99999/v1", "http://host:0", "//host", "",
    "javascript:alert(1)", "http://:80",
)  # fmt: skip


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_an_endpoint_is_an_address_without_secrets(tmp_path: Path, endpoint: str) -> None:
    data: Any = small_data()
    data["teacher"] = {"engine": "openai", "model": "m", "endpoint": endpoint}
    with pytest.raises(RecipeError) as caught:
        parse_recipe(data, tmp_path / "x.yaml")
    assert "PLANTED" not in str(caught.value)
    assert "pw@" not in str(caught.value)


@pytest.mark.parametrize(
    "key", ["sk-PLANTED-1", "a b", "1A", "A-B", "", "PLANTED=x", "$PLANTED", "A\n", "é", "PATH", "HOME"], ids=ascii
)
@pytest.mark.parametrize("field", ["key_variable", "headers", "unknown"])
def test_a_key_in_a_recipe_is_refused_and_never_repeated(tmp_path: Path, field: str, key: str) -> None:
    data: Any = small_data()
    teacher: dict[str, Any] = {"engine": "openai", "model": "m", "endpoint": "https://host/v1"}
    extra = {
        "key_variable": {"key_variable": key},
        "headers": {"dialect": {"headers": {"x": key}}},
        "unknown": {"api_key": key},
    }
    data["teacher"] = teacher | extra[field]
    with pytest.raises(RecipeError) as caught:
        parse_recipe(data, tmp_path / "x.yaml")
    assert "PLANTED" not in str(caught.value)


def test_a_message_about_a_recipe_is_of_a_length_that_is_read(tmp_path: Path) -> None:
    data: Any = small_data()
    data["teacher"] |= {f"unknown_{number}": number for number in range(20_000)}
    with pytest.raises(RecipeError, match=r"20000 problem\(s\)") as caught:
        parse_recipe(data, tmp_path / "x.yaml")
    assert str(caught.value).splitlines()[-1].strip() == "and 19,950 more"
