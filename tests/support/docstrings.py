"""What the docstrings of public functions leave out: the arguments of a function that takes many, and errors that it raises.

Belongs here: reading functions and their docstrings. Not here: which files are checked (`tests/test_house.py`).
"""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterable, Iterator

Function = ast.FunctionDef | ast.AsyncFunctionDef
MANY = 4
"""Parameters from which a docstring has `Args:`, `self` and `cls` not counted."""


def faults_of(text: str) -> list[str]:
    """What is wrong with the docstrings of a module's public functions and methods.

    An override counts as documented by its base, and a command of the CLI by the help texts of its options.
    """
    tree = ast.parse(text)
    commands = set(_commands(tree))
    found = []
    for name, function in _public_functions(tree):
        marks = {_last_name(mark) for mark in function.decorator_list}
        if name not in commands and not marks & {"override", "callback"}:
            found += [f"{name}: {fault}" for fault in _faults(function)]
    return found


def _faults(function: Function) -> Iterator[str]:
    taken, text = _parameters(function), ast.get_docstring(function) or ""
    if len(taken) >= MANY and "Args:" not in text:
        yield f"{len(taken)} parameters and no `Args:`"
    if unknown := _documented(text) - {*taken}:
        yield f"`Args:` has {sorted(unknown)}, which it does not take"
    for error in sorted({*_raised(function.body)}):
        if not re.search(rf"\b{error}\b", text):
            yield f"raises {error}, which its docstring does not name"


def _public_functions(tree: ast.Module) -> Iterator[tuple[str, Function]]:
    for node in tree.body:
        inside = node.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_") else []
        for part, prefix in [(node, ""), *((method, f"{getattr(node, 'name', '')}.") for method in inside)]:
            if isinstance(part, Function) and not part.name.startswith("_"):
                yield prefix + part.name, part


def _commands(tree: ast.Module) -> Iterator[str]:
    """Functions that are registered as commands: those that a function of an `app: typer.Typer` names."""
    for function in tree.body:
        if isinstance(function, Function) and "typer.Typer" in ast.unparse(function.args):
            yield from (part.id for part in ast.walk(function) if isinstance(part, ast.Name))


def _parameters(function: Function) -> list[str]:
    taken = function.args
    found = [*taken.posonlyargs, *taken.args, taken.vararg, *taken.kwonlyargs, taken.kwarg]
    return [one.arg for one in found if one and one.arg not in ("self", "cls")]


def _documented(text: str) -> set[str]:
    """Names in the section `Args:`; a line may have several, as in `home, network: as in ...`."""
    section = re.search(r"^Args:\n((?: +.*\n?|\n)+)", text, re.MULTILINE)
    lines = re.findall(r"^ {4}(\w[^:\n]*):", section[1], re.MULTILINE) if section else []
    return {name.strip() for line in lines for name in line.split(",")}


def _raised(body: Iterable[ast.AST], caught: frozenset[str] = frozenset()) -> Iterator[str]:
    """Names of the errors that this code raises itself, but those that a handler around them keeps."""
    for node in body:
        if isinstance(node, ast.Raise) and node.exc:
            name = _last_name(node.exc)
            if name[0].isupper() and not caught & _kinds(name):
                yield name
        elif isinstance(node, ast.Try):
            yield from _raised(node.body, caught | {kind for handler in node.handlers for kind in _kept(handler)})
            yield from _raised([*node.handlers, *node.orelse, *node.finalbody], caught)
        elif not isinstance(node, Function | ast.ClassDef | ast.Lambda):
            yield from _raised(ast.iter_child_nodes(node), caught)


def _kept(handler: ast.ExceptHandler) -> list[str]:
    """What a handler catches and does not raise again."""
    if handler.type is None or any(isinstance(part, ast.Raise) and part.exc is None for part in ast.walk(handler)):
        return []
    return [_last_name(kind) for kind in (handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type])]


def _kinds(error: str) -> set[str]:
    """The classes that an error is caught by, as far as they are Python's own."""
    known = getattr(builtins, error, Exception)
    return {error, *(kind.__name__ for kind in known.__mro__)}


def _last_name(node: ast.expr) -> str:
    """`Exit` of `typer.Exit(1)`."""
    return ast.unparse(node.func if isinstance(node, ast.Call) else node).rpartition(".")[2]
