"""YAML that somebody wrote by hand, read with bounds: no input takes long to refuse, and each refusal is one line.

Belongs here: what a file may contain at all (bytes, depth, aliases, digits, keys). Not here: what a recipe, prompt file or task
description may contain.
"""

from __future__ import annotations

import re
from typing import Any

import yaml
from typing_extensions import override

BYTES_MAX = 262_144
"""Maximum bytes of a file (ours: ten times the largest prompt set; a parser in Python reads them in seconds)."""
DEPTH_MAX = 50
"""Maximum depth of nesting (ours; recipes have 6)."""
VALUES_MAX = 100_000
"""Maximum values after aliases are replaced by what they name (ours)."""
DIGITS_MAX = 40
"""Maximum characters of a number (ours)."""
_OLD_NUMBER = re.compile(r"[-+]?(?:0[0-7_]+|[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?)")
"""Numbers that YAML 1.1 reads to base 8 or 60: nearly always a slip."""
_OLD_TRUTH = frozenset(("yes", "no", "on", "off"))
"""Words that YAML 1.1 reads as true or false: a name, a language (`no`) or an answer as often as a switch."""
_MERGE = "tag:yaml.org,2002:merge"


class YamlProblem(ValueError):
    """A file that is no YAML, or more than its bounds; the message has one line."""


class _Loader(yaml.SafeLoader):
    """YAML of plain values in which each key is a scalar and occurs once."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0

    @override
    def fetch_flow_collection_start(self, TokenClass: Any) -> None:
        """A bracket; the scanner reads far ahead, so depth counts here, too."""
        self._check_depth(self.flow_level)
        super().fetch_flow_collection_start(TokenClass)  # type: ignore[no-untyped-call]

    @override
    def add_indent(self, column: int) -> bool:
        """A level of a block."""
        self._check_depth(len(self.indents))
        return bool(super().add_indent(column))  # type: ignore[no-untyped-call]

    def _check_depth(self, levels: int) -> None:
        if levels > DEPTH_MAX:
            raise YamlProblem(f"line {self.line + 1}: nested more than {DEPTH_MAX} levels deep")

    @override
    def compose_node(self, parent: Any, index: Any) -> Any:
        """A node, in bounds."""
        self._depth += 1
        self._check_depth(self._depth)
        try:
            return super().compose_node(parent, index)  # type: ignore[no-untyped-call]
        finally:
            self._depth -= 1


def read_yaml_text(text: str) -> Any:
    """The plain values of a YAML text in which each key occurs once.

    Raises:
        YamlProblem: The text is no YAML, or has too many bytes, levels, values or digits.
    """
    if len(text.encode("utf-8", "surrogatepass")) > BYTES_MAX:
        raise YamlProblem(f"more than {BYTES_MAX:,} bytes")
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        if _size(node, {}) > VALUES_MAX:
            raise YamlProblem(f"more than {VALUES_MAX:,} values once its aliases are replaced by what they name")
        return loader.construct_document(node)  # type: ignore[no-untyped-call]
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        words = str(getattr(error, "problem", None) or error).splitlines()[0]
        raise YamlProblem(f"{where}not valid YAML: {words}") from None
    except YamlProblem:
        raise
    except (ValueError, RecursionError, OverflowError, TypeError) as error:
        raise YamlProblem(f"not valid YAML: {str(error).splitlines()[0]}") from None
    finally:
        if loader is not None:
            loader.dispose()  # type: ignore[no-untyped-call]


def _size(node: yaml.Node, sizes: dict[int, int]) -> int:
    """The values below a node, its aliases counted as often as they occur. Raises YamlProblem for a node that contains itself."""
    if id(node) in sizes:
        if sizes[id(node)] < 0:
            raise YamlProblem(f"line {node.start_mark.line + 1}: a value that contains itself")
        return sizes[id(node)]
    sizes[id(node)] = -1
    total = 1
    if isinstance(node, yaml.SequenceNode):
        total += sum(_size(item, sizes) for item in node.value)
    elif isinstance(node, yaml.MappingNode):
        total += sum(_size(part, sizes) for pair in node.value for part in pair)
    sizes[id(node)] = total
    return total


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: dict[Any, int] = {}
    for key_node, _ in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            raise YamlProblem(f"line {line}: a key has to be a name; a value that begins with a brace needs quotes")
        if key_node.tag == _MERGE:
            continue
        key = loader.construct_object(key_node)  # type: ignore[no-untyped-call]
        if key in seen:
            raise YamlProblem(f"line {line}: `{key}` stands twice (first on line {seen[key]})")
        seen[key] = line
    return loader.construct_mapping(node, deep=True)


def _integer(loader: _Loader, node: yaml.ScalarNode) -> int:
    line = node.start_mark.line + 1
    if len(node.value) > DIGITS_MAX:
        raise YamlProblem(f"line {line}: a number of more than {DIGITS_MAX} digits")
    if _OLD_NUMBER.fullmatch(node.value):
        raise YamlProblem(
            f"line {line}: {node.value} would be read to base 8 or 60: write it without leading 0 or colon"
        )
    return int(loader.construct_yaml_int(node))


def _real(loader: _Loader, node: yaml.ScalarNode) -> float:
    if _OLD_NUMBER.fullmatch(node.value):
        raise YamlProblem(
            f"line {node.start_mark.line + 1}: {node.value} would be read to base 60: write it without colon"
        )
    return float(loader.construct_yaml_float(node))


def _truth(loader: _Loader, node: yaml.ScalarNode) -> bool:
    if (word := node.value).casefold() in _OLD_TRUTH:
        raise YamlProblem(
            f"line {node.start_mark.line + 1}: {word} is read as true or false: write true, false, or '{word}'"
        )
    return bool(loader.construct_yaml_bool(node))


def _text(loader: _Loader, node: yaml.ScalarNode) -> str:
    if any("\ud800" <= character <= "\udfff" for character in node.value):
        raise YamlProblem(
            f"line {node.start_mark.line + 1}: half of a character (\\ud800 to \\udfff): write it as one, \\U0001F600"
        )
    return str(node.value)


_Loader.add_constructor("tag:yaml.org,2002:str", _text)
_Loader.add_constructor("tag:yaml.org,2002:bool", _truth)
_Loader.add_constructor("tag:yaml.org,2002:float", _real)
_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)
_Loader.add_constructor("tag:yaml.org,2002:int", _integer)
