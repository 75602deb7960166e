"""No code comes in through data: what the product must never call, found in its syntax trees.

Belongs here: calls that run or load foreign code. Not here: what a reader does with a hostile file (the tests of that reader).
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
PRODUCT = ("speed_assets", "resources", "checks", "scripts")
FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal", "joblib"}
FORBIDDEN_CALLS = {
    "eval",
    "exec",
    "compile",
    "os.system",
    "os.popen",
    "yaml.unsafe_load",
    "yaml.full_load",
}
UNSAFE_LOADERS = {"yaml.Loader", "yaml.FullLoader", "yaml.UnsafeLoader", ""}


def dotted(node: ast.expr) -> str:
    """`a.b.c` of a name or an attribute, else an empty text."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return ""


def keyword(call: ast.Call, name: str) -> ast.expr | None:
    return next((given.value for given in call.keywords if given.arg == name), None)


def is_true(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Constant) and node.value is True


def imported(node: ast.Import | ast.ImportFrom) -> list[str]:
    return [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]


def unsafe_loader(call: ast.Call) -> bool:
    """Whether `yaml.load` gets no loader, or one that builds objects."""
    loader = keyword(call, "Loader") or (call.args[1] if len(call.args) > 1 else None)
    return loader is None or dotted(loader) in UNSAFE_LOADERS


def call_violations(call: ast.Call) -> Iterator[str]:
    """What is forbidden about one call."""
    name, safe = dotted(call.func), keyword(call, "use_safetensors")
    found = {
        name: name in FORBIDDEN_CALLS,
        "yaml.load without a safe loader": name == "yaml.load" and unsafe_loader(call),
        "shell=True": is_true(keyword(call, "shell")),
        "trust_remote_code=True": is_true(keyword(call, "trust_remote_code")),
        "torch.load without weights_only=True": name == "torch.load" and not is_true(keyword(call, "weights_only")),
        "numpy.load with allow_pickle": name in ("numpy.load", "np.load") and is_true(keyword(call, "allow_pickle")),
        "weights that are not safetensors": name.endswith(".from_pretrained")
        and safe is not None
        and not is_true(safe),
    }
    return (what for what, holds in found.items() if holds)


def violations(source: str) -> Iterator[str]:
    """Every forbidden import or call in a module, as `line: what`."""
    for node in ast.walk(ast.parse(source)):
        found: list[str] = []
        if isinstance(node, ast.Import | ast.ImportFrom):
            found = [f"import of {name}" for name in imported(node) if name.split(".")[0] in FORBIDDEN_MODULES]
        elif isinstance(node, ast.Call):
            found = list(call_violations(node))
        elif isinstance(node, ast.Dict):
            pairs = zip(node.keys, node.values, strict=True)
            if any(isinstance(k, ast.Constant) and k.value == "trust_remote_code" and is_true(v) for k, v in pairs):
                found = ["trust_remote_code: True"]
        yield from (f"{node.lineno}: {what}" for what in found)  # type: ignore[attr-defined]


def test_the_product_runs_no_foreign_code() -> None:
    found = {
        f"{path.relative_to(PROJECT)}:{line}"
        for root in PRODUCT
        for path in sorted((PROJECT / root).rglob("*.py"))
        for line in violations(path.read_text())
    }
    assert not found, "\n".join(sorted(found))


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "eval('1')",
        "import os\nos.system('ls')",
        "subprocess.run('ls', shell=True)",
        "yaml.load(text)",
        "yaml.load(text, Loader=yaml.FullLoader)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path, allow_pickle=True)",
        "AutoModel.from_pretrained(name, trust_remote_code=True)",
        "source = {'trust_remote_code': True}",
        "AutoModel.from_pretrained(name, use_safetensors=False)",
    ],
)
def test_each_kind_of_violation_is_found(source: str) -> None:
    assert list(violations(source))


def test_what_is_allowed_passes() -> None:
    allowed = (
        "yaml.safe_load(t); torch.load(p, weights_only=True); AutoModel.from_pretrained(n, trust_remote_code=False)"
    )
    assert not list(violations(allowed))
