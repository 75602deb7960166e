"""Topic files of every format, honest and hostile: nothing is lost, nothing but `TopicError` is raised."""

from __future__ import annotations

import os
import re
import time
import unicodedata
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from speed_assets.domain.topics import SHOWN_CHARACTERS, TopicError, TopicReading, read_topics, shorten
from speed_assets.microworld.toy_language import ASPECTS, CUE_ASPECT, topic_phrase

PROJECT = Path(__file__).resolve().parents[2]
TAXONOMIES = Path(os.environ.get("SPEED_SHARED", PROJECT.parent / "shared")) / "taxonomy"


def read(raw: bytes | str, max_levels: int = 4, max_characters: int = 200) -> TopicReading:
    return read_topics(
        raw.encode() if isinstance(raw, str) else raw, max_levels=max_levels, max_characters=max_characters
    )


def topics(raw: bytes | str) -> list[str]:
    return [topic.topic for topic in read(raw).topics]


def refusals(raw: bytes | str) -> dict[int, str]:
    return {line.line: line.reason for line in read(raw).refused}


def taxonomy(name: str) -> TopicReading:
    file = TAXONOMIES / name
    if not file.is_file():
        pytest.skip(f"{file} is not here: set SPEED_SHARED to the folder that holds taxonomy/{name}")
    return read(file.read_bytes())


# Formats


def test_open_directory_paths_lose_their_root_and_their_underscores() -> None:
    (topic,) = read("Top/Arts/Music/String_Instruments/Bowed/Violins\n").topics
    assert (topic.line, topic.path) == (1, "Arts/Music/String Instruments/Bowed/Violins")
    assert topic.topic == "Arts/Music/Bowed/Violins"


def test_iab_paths() -> None:
    assert topics("Automotive\nAutomotive > Auto Body Styles > SUV\n") == [
        "Automotive",
        "Automotive/Auto Body Styles/SUV",
    ]


def test_a_slash_inside_an_iab_level_opens_no_level() -> None:
    assert topics("Sports > Snooker/Pool\nSports > Darts\n") == ["Sports/Snooker-Pool", "Sports/Darts"]


def test_the_separator_is_the_one_that_most_lines_show() -> None:
    assert topics("Arts/Music\nArts/Film\nLogic > Truth\n") == ["Arts/Music", "Arts/Film", "Logic > Truth"]


def test_phrases() -> None:
    assert topics("cost of violins\n  crème   brûlée \n茶道") == ["cost of violins", "crème brûlée", "茶道"]


@pytest.mark.parametrize("column", ["path", "TOPIC", "Name", "category"])
def test_tables_are_read_by_the_name_of_their_column(column: str) -> None:
    reading = read(f"id\t{column}\tdepth\n1\tTop/Arts/Music\t2\n2\t#Tags\t1\n")
    assert [(topic.line, topic.topic) for topic in reading.topics] == [(2, "Arts/Music"), (3, "#Tags")]


def test_of_two_columns_the_path_is_read() -> None:
    assert topics("name\tpath\nMusic\tArts/Music\n") == ["Arts/Music"]


def test_quotes_around_a_cell_of_a_table_are_its_quoting() -> None:
    assert topics('id\ttopic\n1\t"Heroes"\n2\t"Weird\n3\tTea\n') == ["Heroes", '"Weird', "Tea"]


def test_rows_without_their_topic_are_refused() -> None:
    assert refusals("id\tpath\n1\tTea\n2\n3\t \n\t\n") == {3: "missing column", 4: "empty column", 5: "blank"}


def test_comments_and_blank_lines_may_precede_the_header_of_a_table() -> None:
    reading = read("# exported\n\nid\tpath\n1\tTea\n")
    assert [topic.line for topic in reading.topics] == [4]
    assert [(line.line, line.reason) for line in reading.refused] == [(2, "blank")]


def test_comments_of_a_text_are_no_lines_of_it() -> None:
    assert read("# mine\nTea\n  # more\n").refused == ()


def test_a_tab_in_a_text_is_refused_with_the_columns_that_would_make_it_a_table() -> None:
    assert refusals("Tea\nid\tpath\n")[2].startswith("a tab, but the file's first line names no column path")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_line_ends_and_byte_order_marks(end: str, encoding: str) -> None:
    reading = read(end.join(["# hot drinks", "Drinks/Té", "Drinks/Kaffee", ""]).encode(encoding))
    assert [(topic.line, topic.topic) for topic in reading.topics] == [(2, "Drinks/Té"), (3, "Drinks/Kaffee")]
    assert reading.refused == ()


def test_both_byte_orders() -> None:
    assert topics(b"\xff\xfe" + "Tea".encode("utf-16-le")) == topics(b"\xfe\xff" + "Tea".encode("utf-16-be")) == ["Tea"]


# Refused lines


def test_duplicates_name_the_line_that_came_first() -> None:
    text = "Arts/Music/x/Tea_Songs/Green\nSports\narts/music/y/tea songs/GREEN\nSPORTS\nSports\n"
    assert refusals(text) == {3: "duplicate of line 1", 4: "duplicate of line 2", 5: "duplicate of line 2"}


def test_composed_and_decomposed_letters_are_the_same() -> None:
    assert refusals(f"café\n{unicodedata.normalize('NFD', 'café')}\n") == {2: "duplicate of line 1"}


def test_blank_lines_are_counted_but_the_end_of_the_last_line_is_none() -> None:
    assert refusals("Tea\n\n \t\nCoffee\n\n") == {2: "blank", 3: "blank", 5: "blank"}
    assert refusals("Tea\nCoffee\n") == {}


def test_a_line_in_another_encoding_is_refused_alone() -> None:
    reading = read(b"Tea\ncaf\xe9\nCoffee\n")
    assert [topic.line for topic in reading.topics] == [1, 3]
    (refused,) = reading.refused
    assert (refused.line, refused.text, refused.reason) == (2, "caf\\xe9", "not UTF-8: byte 0xE9")


@pytest.mark.parametrize("surrogate", [0xD83D, 0xDC00])
def test_lone_surrogates_are_refused(surrogate: int) -> None:
    line = f"Tea {chr(surrogate)} house"
    assert refusals(b"Tea\n" + line.encode("utf-8", "surrogatepass"))[2] == "not UTF-8: byte 0xED"
    assert refusals(b"\xff\xfe" + f"Tea\n{line}".encode("utf-16-le", "surrogatepass"))[2].startswith("damaged text")


def test_a_cut_utf_16_file_loses_only_its_last_line() -> None:
    assert list(refusals(b"\xff\xfe" + "Tea\nCoffee".encode("utf-16-le")[:-1])) == [2]


@pytest.mark.parametrize("character", ["\x07", "\x1b", "\x85", "\u2028", "\u200b", "\u202e", "\ufeff", "\U000e0041"])
def test_characters_that_are_not_seen_are_refused(character: str) -> None:
    reading = read(f"Green tea\nTea{character}house\n")
    assert [line.reason for line in reading.refused] == [
        f"control, invisible or unassigned character U+{ord(character):04X}"
    ]
    assert reading.refused[0].text.isprintable()


def test_joiners_and_wide_spaces_are_part_of_writing() -> None:
    assert topics("पक\u094d\u200dका\nvin\u00a0chaud\u3000茶\n") == ["पक\u094d\u200dका", "vin chaud 茶"]


def test_length_is_counted_in_characters_of_the_topic() -> None:
    reading = read(f"id\tpath\n{'7' * 99}\t{'é' * 20}\n8\t{'e' * 21}\n", max_characters=20)
    assert [topic.line for topic in reading.topics] == [2]
    assert [line.reason for line in reading.refused] == ["too long: 21 characters, 20 are allowed"]


def test_normal_form_stays_within_the_length() -> None:
    growing = "\U0001d160" * 5  # a musical sign that NFC writes as three
    assert [line.line for line in read(f"Tea\n{growing}a", max_characters=8).refused] == [2]


def test_a_refused_line_is_shown_cut_and_printable() -> None:
    (refused,) = read(b"Tea\n" + b"\x1b[31m\xff" * 999).refused
    assert refused.text.startswith("\\x1b[31m\\xff")
    assert len(refused.text) == SHOWN_CHARACTERS


@pytest.mark.parametrize("path", ["Arts//Music", "/Arts", "Arts/", "Arts/ /Music", "_"])
def test_empty_levels_are_refused(path: str) -> None:
    assert refusals(f"Arts/Tea\n{path}\n")[2].startswith("empty level")


def test_empty_levels_of_iab_paths_are_refused() -> None:
    assert refusals("Arts > Tea\nArts >  > Music\nArts > \n") == {2: "empty level 2 of 3", 3: "empty level 2 of 2"}


def test_lines_that_say_nothing_are_refused() -> None:
    reason = "no letter or digit in the last level"
    assert refusals("Tea\n---\n/!\nArts/...\n") == {2: reason, 3: "empty level 1 of 2", 4: reason}
    assert refusals("Top/Arts\nTop\n") == {2: "only the root of the Open Directory: no level below Top"}


def test_markup_is_data() -> None:
    lines = ["<b>bold", "{{ topic }}", "'; DROP TABLE topics; --", "$(reboot)", "=SUM(A1)", "%s{0}"]
    assert topics("\n".join(lines)) == lines


# Files


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "empty"),
        (b"\xef\xbb\xbf\r\n \n", "empty"),
        (b"\xff\xfe", "empty"),
        (b"Tea\0house\n", "NUL"),
        ("Tea\n".encode("utf-16-le"), "UTF-16"),
        ("Tea\n".encode("utf-32"), "UTF-32"),
        ("чай\nщи\n".encode("koi8-r"), "another encoding"),
        (b"\x1f\x8b\x08\x01\xff\x9c\x8d\xfe\x80", "cut or damaged"),
        (b"# only a comment\n", "no usable topic"),
        (b"---\n\n", "line 1 is refused: no letter or digit"),
        (b"id\tpath\n", "no usable topic"),
    ],
)
def test_files_of_no_use(raw: bytes, says: str) -> None:
    with pytest.raises(TopicError, match=says) as caught:
        read(raw)
    assert re.search(r"(Write|Save) ", str(caught.value)), "the message says what to do"


# Properties

LINE = st.one_of(
    st.sampled_from(
        ["", " ", "#", "# note", "Top", "Top/Arts", "A//B", "A > B", "A >  > B", "id\tpath", "1\tArts/Tea"]
    ),
    st.lists(st.sampled_from(["Arts", "Tea_House", "a", "ß", "...", "é", "\t", "\x07", "\ud800", "3"])).map("/".join),
    st.text(st.characters(exclude_characters="\r\n"), max_size=30),
)
FILE = st.builds(
    lambda lines, end: end.join(lines).encode("utf-8", "surrogatepass"),
    st.lists(LINE, max_size=12),
    st.sampled_from(["\n", "\r\n", "\r"]),
)


@given(
    raw=st.one_of(st.binary(max_size=200), st.binary(max_size=200).map(b"\xff\xfe".__add__), FILE),
    max_levels=st.integers(1, 9),
    max_characters=st.integers(1, 60),
)
@example(raw=b"id\tpath\n\r1\tTop\n", max_levels=1, max_characters=1)
def test_any_bytes_give_sound_topics_or_a_topic_error(raw: bytes, max_levels: int, max_characters: int) -> None:
    try:
        reading = read(raw, max_levels, max_characters)
    except TopicError:
        return
    seen = [topic.topic.casefold() for topic in reading.topics]
    assert len(seen) == len(set(seen))
    for topic in reading.topics:
        levels = topic.path.split("/")
        assert all(level == " ".join(level.split()) != "" for level in levels)
        assert len(topic.path) <= max_characters
        assert topic.topic == "/".join(shorten(levels, max_levels))
        topic.path.encode()  # what is stored and sent must be text
    assert all(line.text.isprintable() and len(line.text) <= SHOWN_CHARACTERS for line in reading.refused)


@given(FILE)
def test_every_line_is_a_topic_or_refused_or_a_comment_or_the_header(raw: bytes) -> None:
    lines = re.split(rb"\r\n|\r|\n", raw)
    expected = {number for number, line in enumerate(lines, 1) if number < len(lines) or line}
    try:
        reading = read(raw)
    except TopicError:
        return
    topic_lines = [topic.line for topic in reading.topics]
    refused_lines = [line.line for line in reading.refused]
    assert topic_lines == sorted(topic_lines)
    assert refused_lines == sorted(refused_lines)
    assert len({*topic_lines, *refused_lines}) == len(topic_lines) + len(refused_lines)
    silent = [lines[number - 1] for number in sorted(expected - {*topic_lines, *refused_lines})]
    headers = [line for line in silent if not line.decode("utf-8", "replace").strip().startswith("#")]
    assert headers in ([], [b"id\tpath"])
    assert {*topic_lines, *refused_lines} <= expected


@given(st.lists(st.text(max_size=5), max_size=20), st.integers(1, 25))
def test_shortening(levels: list[str], max_levels: int) -> None:
    kept = shorten(levels, max_levels)
    assert len(kept) == min(len(levels), max_levels)
    assert shorten(kept, max_levels) == kept
    assert kept[-1:] == tuple(levels[-1:])
    if len(levels) > max_levels:
        first = max_levels // 2
        assert kept[:first] == tuple(levels[:first])
        assert kept[first:] == tuple(levels[len(levels) - (max_levels - first) :])


def test_shortening_as_in_the_paper() -> None:
    path = "Arts/Movies/Titles/3/36_Hours/Cast_and_Crew"
    assert "/".join(shorten(path.split("/"), 4)) == "Arts/Movies/36_Hours/Cast_and_Crew"


def test_shortening_keeps_a_level() -> None:
    with pytest.raises(ValueError, match="max_levels is 0"):
        shorten(("Arts", "Music"), 0)


@pytest.mark.parametrize("unit", [b"\n", b"\xe9\n", b"/", b" ", b"a\n", "e\u0323\u0301".encode(), b"#\n", b"\t"])
def test_time_is_linear_in_the_bytes(unit: bytes) -> None:
    sizes = (2_000, 32_000)
    best = dict.fromkeys(sizes, float("inf"))
    for _ in range(5):  # in turns, so that a busy machine slows both
        for copies in sizes:
            raw = b"Tea\nGreen tea leaves\n" + unit * copies
            begin = time.process_time()
            read(raw)
            best[copies] = min(best[copies], time.process_time() - begin)
    # 16 times the bytes: n log n takes 22 times as long, n ** 1.5 takes 64 times, n ** 2 takes 256 times.
    assert best[32_000] < 40 * best[2_000] + 0.02


# Real files


def test_the_sports_branch_of_the_open_directory() -> None:
    reading = taxonomy("dmoz_sports.tsv")
    assert len(reading.topics) + len(reading.refused) == 15_019 - 1
    assert len(reading.topics) > 12_000
    assert {line.reason.split(" of ")[0] for line in reading.refused} == {"duplicate", "only the root"}
    assert all(topic.path.startswith("Sports") and topic.topic.count("/") < 4 for topic in reading.topics)


def test_the_iab_content_taxonomy() -> None:
    reading = taxonomy("iab_content_3.1_clean.tsv")
    assert len(reading.topics) == 704
    assert reading.refused == ()
    assert "Automotive/Auto Body Styles/SUV" in {topic.path for topic in reading.topics}


def test_the_default_topics() -> None:
    raw = (PROJECT / "recipes" / "topics.txt").read_bytes()
    assert raw.isascii()
    reading = read(raw)
    assert reading.refused == ()
    assert len(reading.topics) >= 330
    phrases = [topic_phrase(topic.topic) for topic in reading.topics]
    assert len(set(phrases)) == len(phrases), "the microworld tells topics apart by their last level"
    assert all(len(phrase.split()) <= 3 for phrase in phrases)
    assert all(2 <= len(topic.path.split("/")) <= 6 for topic in reading.topics)
    assert sum(topic.topic != topic.path for topic in reading.topics) >= 50, "the list shows shortening"
    words = {word for phrase in phrases for word in phrase.split()}
    assert words.isdisjoint({*ASPECTS, *CUE_ASPECT}), "no topic speaks of an aspect by its own words"
