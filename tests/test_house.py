"""The house rules that a tool can enforce."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterable
from fnmatch import fnmatch
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from safetensors import safe_open

from resources.inputs.base_models import MICROWORLD_BASE
from scripts import module_tables
from speed_assets.recipe import PROJECT, Recipe
from speed_assets.recipe.field_paths import all_fields
from tests.support import docstrings

PRODUCT = ("speed_assets", "resources", "checks")
LINES, FUNCTION_LINES = 400, 60
TEXTS = {"", ".j2", ".lock", ".md", ".py", ".toml", ".yaml", ".yml"}
"""Endings of the files whose texts a reader sees; files without one are those such as `Makefile`."""
KERNELS = "kernels.py"
"""How the names of files with compiled functions end: a compiled loop is one function, and shares parts that numba inlines."""
RENAMED = "docs/names.md"
"""The table of old names and new ones."""
WORD_LIST = "CONTRIBUTING.md"
"""Lists the words that are not written."""
RUNTIME_FOLDERS = {
    ".speed",
    "adapter",
    "aside",
    "dagster",
    "data",
    "logs",
    "model",
    "models",
    "rehearsals",
    "reports",
    "studies",
    "work",
}
"""Folders that the docs name and a run creates: in a home, an artifact or a release."""
COMPLEX = {"tests/support/zoo.py", "tests/test_house.py"}
"""Files with a function that is excused from the limit of complexity, each with its reason; this file names the mark."""
LONG_FILES = {"tests/support/planted_rows.py": "data: planted faults, one a line"}


def tracked_files() -> list[Path]:
    listed = subprocess.run(["git", "ls-files"], cwd=PROJECT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [PROJECT / line for line in listed.stdout.splitlines() if (PROJECT / line).is_file()]


def test_definitions_load_without_heavy_libraries(tmp_path: Path) -> None:
    code = (
        "import sys, speed_assets.definitions, speed_assets.orchestration.code_location; "
        "heavy = {'torch', 'transformers', 'trl', 'sentence_transformers', 'mteb', 'datasets', 'great_expectations'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "", "SPEED_HOME": str(tmp_path)},
    )
    assert result.stdout.strip() == "[]", result.stderr


def test_lock_is_closed() -> None:
    """Every dependency of the project, and every dependency of those, is pinned: an install resolves nothing."""
    locks = ("requirements.lock", "requirements-torch.lock")
    lines = [line for name in locks for line in (PROJECT / name).read_text().splitlines()]
    locked = {canonicalize_name(line.split("==")[0]) for line in lines if "==" in line}
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    extras = [line for name in ("train", "eval", "dev") for line in project["optional-dependencies"][name]]
    waiting = [Requirement(line) for line in [*project["dependencies"], *extras]]
    seen = set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        for extra in ("", *requirement.extras):
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            needed = [Requirement(line) for line in metadata.requires(name) or ()]
            waiting += [r for r in needed if r.marker is None or r.marker.evaluate({"extra": extra})]
    # A torch that is built for CUDA brings its own libraries; the lock has the build for CPUs.
    names = {name for name, _ in seen if not name.startswith(("nvidia-", "cuda-")) and name != "triton"}
    assert names <= locked, f"not in requirements.lock: {sorted(names - locked)}"


def test_lock_is_pinned_by_hash() -> None:
    """A line is a comment, a pin that goes on in the next line, or a hash of the package above."""
    lock = (PROJECT / "requirements.lock").read_text()
    for line in lock.splitlines():
        assert re.fullmatch(r"#.*|[A-Za-z0-9_.-]+==[A-Za-z0-9_.!+]+ \\|    --hash=sha256:[0-9a-f]{64}( \\)?", line), (
            line
        )
    listed = {
        found["name"]: found["version"] for found in json.loads((PROJECT / "sbom.cdx.json").read_text())["components"]
    }
    torch = (PROJECT / "requirements-torch.lock").read_text()
    assert listed == dict(re.findall(r"(?m)^([A-Za-z0-9_.-]+)==([A-Za-z0-9_.!+]+)", lock + torch))


def test_no_registry_host_is_named() -> None:
    hosts = re.compile("|".join(["py" + r"pi\.org", "python" + r"hosted\.org", "npm" + r"js\.org"]))
    for path in tracked_files():
        if path.suffix in {".py", ".toml", ".md", ".yaml", ".yml", ".lock", ".txt", ""}:
            assert not hosts.search(path.read_text(errors="ignore")), path


def test_base_model_is_small_safe_and_has_a_card() -> None:
    files = {path.name for path in MICROWORLD_BASE.iterdir()}
    assert {"model.safetensors", "tokenizer.json", "config.json", "README.md"} <= files
    assert sum(path.stat().st_size for path in MICROWORLD_BASE.iterdir()) < 8_000_000
    card = (MICROWORLD_BASE / "README.md").read_text()
    for word in ("license", "make base-model", "gate"):
        assert word in card.lower(), f"the card of the base model has nothing on {word}"
    with safe_open(MICROWORLD_BASE / "model.safetensors", "numpy") as weights:
        assert weights.keys()


def python_files(*folders: str) -> list[tuple[str, str]]:
    """(name in the project, text) of the Python files below these folders, or of all."""
    found = [(path.relative_to(PROJECT).as_posix(), path) for path in tracked_files() if path.suffix == ".py"]
    return [(name, path.read_text()) for name, path in found if not folders or name.partition("/")[0] in folders]


def test_every_python_file_says_what_it_is_in_a_sentence() -> None:
    for name, text in python_files():
        if text:
            first = (ast.get_docstring(ast.parse(text)) or "").partition("\n\n")[0]
            assert len(first.split()) > 3, name
            assert first.endswith((".", ":", "`")), f"{name}: {first}"


def test_modules_of_the_product_say_what_belongs_in_them() -> None:
    """What belongs in the modules of assets and of the recipe is in the `__init__.py` of those packages."""
    for name, text in python_files(*PRODUCT):
        if not name.endswith(("__init__.py", "__main__.py")) and not name.startswith(
            ("speed_assets/assets/", "speed_assets/recipe/")
        ):
            assert "elongs here" in (ast.get_docstring(ast.parse(text)) or ""), name


UNDOCUMENTED = '''
def many(first, second, third, fourth):
    "What it does."

class Reader:
    def read(self, path):
        """Read it.

        Args:
            file: it.
        """
        try:
            raise FileNotFoundError(path)
        except OSError:
            raise ReadingError from None
'''


def test_docstrings_of_public_functions_name_arguments_and_errors() -> None:
    """`Args:` from four parameters on, with names that the function takes, and every error that it raises itself."""
    assert docstrings.faults_of(UNDOCUMENTED) == [
        "many: 4 parameters and no `Args:`",
        "Reader.read: `Args:` has ['file'], which it does not take",
        "Reader.read: raises ReadingError, which its docstring does not name",
    ]
    faults = [f"{name}: {fault}" for name, text in python_files(*PRODUCT) for fault in docstrings.faults_of(text)]
    assert not faults, "\n".join(faults)


def test_files_and_functions_fit_a_reader() -> None:
    files = {name: len(text.splitlines()) for name, text in python_files()}
    assert not [
        name for name, lines in files.items() if lines > LINES and name not in LONG_FILES and not name.endswith(KERNELS)
    ]
    assert set(LONG_FILES) <= set(files), "an exception that is no file any more"
    long = [
        f"{name}::{node.name}"
        for name, text in python_files()
        if not name.endswith(KERNELS)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno + 1 > FUNCTION_LINES
    ]
    assert not long


def test_only_compiled_functions_are_excused_from_types_and_complexity() -> None:
    """The gates themselves run in `make lint`; this keeps them from being widened there."""
    tools = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]
    mypy, lint = tools["mypy"], tools["ruff"]["lint"]
    assert mypy["strict"]
    assert {*PRODUCT, "tests/support", "scripts", "benchmarks"} <= {*mypy["files"]}
    assert "explicit-override" in mypy["enable_error_code"]
    excused = [module for part in mypy["overrides"] if part.get("ignore_errors") for module in part["module"]]
    assert all(f"{module.replace('.', '/')}.py".endswith(KERNELS) for module in excused)
    assert "C901" in lint["select"]
    assert lint["mccabe"]["max-complexity"] <= 12
    assert [name for name, codes in lint["per-file-ignores"].items() if "C901" in codes] == [
        "speed_assets/domain/*kernels.py"
    ]
    assert {name for name, text in python_files() if "# noqa: C901 - " in text} == COMPLEX
    assert (PROJECT / "speed_assets" / "py.typed").is_file()


def test_one_name_is_one_file() -> None:
    """But `__init__.py`, and a module with the name of its package: it holds what the package is named for."""
    names = [Path(name) for name, _ in python_files(*PRODUCT)]
    counted = Counter(path.name for path in names if path.name != "__init__.py" and path.stem != path.parent.name)
    assert not [name for name, count in counted.items() if count > 1]


def dialect() -> list[str]:
    """The words of CONTRIBUTING.md that nobody else in the field uses."""
    text = (PROJECT / WORD_LIST).read_text()
    found = re.search(r"<!-- words that are not written -->\n```\n(.+?)\n```", text, re.DOTALL)
    assert found, "CONTRIBUTING.md has the list"
    return [word for line in found[1].splitlines() for word in line.split(", ")]


def plain_words(text: str) -> str:
    """The words of a text between single spaces, those of names such as `set_path` and of lines that go on in the next, too."""
    return re.sub(r"[\s_#|>]+", " ", text)


def test_words() -> None:
    """All texts use the field's English, names in code as well. Prompts are data, and may use any word."""
    words = re.compile(r"\b(?:" + "|".join(dialect()) + r")\b", re.IGNORECASE)
    assert words.findall(plain_words("def _set_aside(): ...  # what it is\n    # told")) == ["set aside", "is told"]
    used: dict[str, Counter[str]] = {}
    for path in tracked_files():
        name = path.relative_to(PROJECT).as_posix()
        is_data = name.startswith("recipes/prompts/") or "/prompt_sets/" in name
        if path.suffix not in TEXTS or is_data or name in (RENAMED, WORD_LIST, "tests/test_house.py"):
            continue
        if found := Counter(match.lower() for match in words.findall(plain_words(path.read_text()))):
            used[name] = found
    assert not used, "\n".join(f"{name}: {dict(found)}" for name, found in used.items())


def test_every_test_that_the_docs_name_is_there() -> None:
    named = re.findall(r"`(test_\w+\.py)::(\w+)`", (PROJECT / "docs" / "reliability.md").read_text())
    assert len(named) > 40
    for file, name in named:
        (path,) = (PROJECT / "tests").rglob(file)
        assert f"def {name}(" in path.read_text(), f"{file}::{name}"


def test_tables_of_modules_are_current() -> None:
    missing = [module for module in module_tables.modules() if module_tables.page_of(module) is None]
    assert not missing, "add patterns to scripts/module_tables.py"
    stale = [
        page
        for page in module_tables.PAGES
        if module_tables.written(page) != (module_tables.PAGES_FOLDER / page).read_text()
    ]
    assert not stale, "run python -m scripts.module_tables"


def pages() -> list[tuple[Path, str]]:
    """(file, text) of the documentation that a user reads."""
    folders = {PROJECT / "docs", PROJECT / "docs" / "architecture"}
    top = {PROJECT / "README.md", PROJECT / "CONTRIBUTING.md"}
    found = [path for path in tracked_files() if path.suffix == ".md" and (path in top or path.parent in folders)]
    return [(path, path.read_text()) for path in found]


def heading_anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub writes them."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def test_relative_links_lead_somewhere() -> None:
    dead = []
    for path, text in pages():
        for link in re.findall(r"\]\((?!https?:|mailto:)([^)\s]+)\)", text):
            file, _, anchor = link.partition("#")
            target = path.parent / file if file else path
            if not target.exists() or (anchor and anchor not in heading_anchors(target.read_text())):
                dead.append(f"{path.relative_to(PROJECT)}: {link}")
    assert not dead


def exists_below(name: str, names: Iterable[str]) -> bool:
    """Whether one of these paths is `name` or ends with it; `*` stands for any characters."""
    return any(fnmatch(f"/{known}", f"*/{name}") for known in names)


def test_files_folders_and_modules_that_the_docs_name_exist() -> None:
    """A path may be short (`assets/tasks.py`). The page of old and new names is not asked for old ones."""
    files = [path.relative_to(PROJECT).as_posix() for path in tracked_files()]
    folders = {parent.as_posix() for file in files for parent in Path(file).parents}
    modules = [file.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for file in files]
    missing = []
    for path, text in pages():
        if path == PROJECT / RENAMED:
            continue
        for code in re.findall(r"`([^`\n]+)`", text):
            named = re.findall(r"[\w.*/-]+\.py\b", code) + re.findall(
                r"[\w*-]+/[\w.*/-]+\.(?:yaml|md|toml|txt)\b", code
            )
            wrong = [name for name in named if not exists_below(name.removeprefix("./"), files)]
            if re.fullmatch(r"[\w./-]+/", code) and code.partition("/")[0] not in RUNTIME_FOLDERS:
                wrong += [code] if not exists_below(code.strip("/"), folders) else []
            missing += [f"{path.relative_to(PROJECT)}: {name}" for name in wrong]
        run = re.findall(r"-m ((?:benchmarks|scripts|speed_assets)\.\w+(?:\.\w+)*)", text)
        missing += [f"{path.relative_to(PROJECT)}: {module}" for module in run if module not in modules]
    assert not missing


def test_recipe_fields_that_the_docs_name_exist() -> None:
    """`money.run` is a field. A file name (`quarantine.parquet`) or the function of a module is not asked."""
    fields = set(all_fields())
    files = re.compile(r"\.(?:py|ya?ml|md|jsonl?|png|parquet|txt|toml|sqlite|lock)$")
    unknown = [
        f"{path.relative_to(PROJECT)}: {named}"
        for path, text in pages()
        for named in re.findall(r"`([a-z_]+(?:\.[a-z_]\w*)+)\b", text)
        if path != PROJECT / RENAMED and named.partition(".")[0] in Recipe.model_fields and not files.search(named)
        if not any(field == named or field.startswith(f"{named}.") for field in fields)
    ]
    assert not unknown


def test_new_names_exist() -> None:
    """Every name in the middle column of the table of names is an identifier or a file of this project."""
    rows = [line.split(" | ") for line in (PROJECT / RENAMED).read_text().splitlines() if line.startswith("| `")]
    assert len(rows) > 40
    existing = {word for _, text in python_files() for word in re.findall(r"\w+", text)}
    existing |= {path.stem for path in tracked_files()} | {path.parent.name for path in tracked_files()}
    new = [name for row in rows for name in re.findall(r"`([^`]+)`", row[1])]
    named = {word for name in new for word in re.findall(r"\w+", name.removesuffix(".py"))}
    assert not named - existing
