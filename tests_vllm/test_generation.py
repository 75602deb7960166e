"""Generation with a real vLLM on the CPU, in process and over HTTP, with the shipped base."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from resources.compute import generator
from resources.compute.cluster import RayShards, Shard, run_shards
from resources.compute.generator import GenerationJob, ModelSource, generate
from resources.compute.runner import Runner, WorkerFailed
from resources.inputs.base_models import MICROWORLD_BASE
from speed_assets.domain.attributes import draw_attributes
from speed_assets.domain.prompts import PromptSet, schema_for
from speed_assets.domain.task_types import TASK_TYPES
from speed_assets.recipe import PROJECT, Cluster, Sampling, load_recipe
from tests.support.poisoned import poisoned_python
from tests.support.ray_nodes import CONNECTING, Nodes

RECIPE = load_recipe("offline")
BASE = ModelSource(str(MICROWORLD_BASE), None, None)
OTHER_SCHEMA = schema_for("synthesis", "matching_short")
Generate = Callable[..., pl.DataFrame]


def prompts(rows: int) -> pl.DataFrame:
    """Two candidates for each of `rows` / 2 prompts."""
    words = PromptSet.load("compact")
    return pl.DataFrame(
        [
            {
                "row_id": f"r{row // 2}",
                "candidate": row % 2,
                "prompt": words.synthesis(
                    "retrieval", f"find texts on topic {row // 2}", draw_attributes("retrieval", row)
                ),
            }
            for row in range(rows)
        ],
        schema_overrides={"candidate": pl.Int64},
    )


@pytest.fixture(scope="module")
def runners(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Runner]]:
    """A runner for each engine, so that each is started once where a test does not kill it."""
    engines = ("vllm", "vllm_server", "transformers")
    runners = {engine: Runner(tmp_path_factory.mktemp("home"), threads=2, warm=False) for engine in engines}
    yield runners
    for runner in runners.values():
        runner.close()


@pytest.fixture
def runner(runners: dict[str, Runner]) -> Runner:
    return runners["vllm"]


@pytest.fixture
def generated(runners: dict[str, Runner], tmp_path: Path) -> Generate:
    """Outputs of an engine for prompts, each job in a folder of its own unless it is named."""
    jobs = 0

    def make(
        engine: str,
        rows: pl.DataFrame,
        source: ModelSource = BASE,
        folder: str | None = None,
        temperature: float = 1.0,
        restarts: int = 0,
        schema: Mapping[str, Any] | None = None,
        runner: Any = None,
        progress: Callable[[int, int, str], None] | None = None,
        tokens: int = 60,
    ) -> pl.DataFrame:
        nonlocal jobs
        jobs += 1
        changes = {"engine": engine, "structured": schema is not None, "batch_rows": 32}
        return generate(
            runner or runners[engine],
            RECIPE.generator.model_copy(update=changes),
            RECIPE.runtime.model_copy(update={"engine_restarts": restarts}),
            source,
            rows,
            Sampling(temperature=temperature, max_new_tokens=tokens),
            1,
            tmp_path / (folder or f"job{jobs}"),
            progress,
            schema,
        )

    return make


def result(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "generate" / "result.json").read_text())
    return found


def same_share(one: pl.DataFrame, other: pl.DataFrame) -> float:
    return float((one["output"] == other["output"]).mean())  # type: ignore[arg-type]


def write_adapter(folder: Path, seed: int) -> str:
    """A LoRA adapter on the shipped base: drawn at random and large enough to be seen, or for seed 0 too small for that."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    base = AutoModelForCausalLM.from_pretrained(MICROWORLD_BASE, dtype=torch.float32)
    model = get_peft_model(base, LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", init_lora_weights=not seed))
    if not seed:
        with torch.no_grad():
            for name, weights in model.named_parameters():
                if "lora_B" in name:
                    weights.fill_(1e-9)
    model.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> list[ModelSource]:
    folder = tmp_path_factory.mktemp("adapters")
    return [ModelSource(BASE.model, None, write_adapter(folder / f"a{seed}", seed)) for seed in (1, 2, 0)]


class Faulty:
    """A runner whose worker processes die when a certain row is under way (`tests/support/poisoned.py`)."""

    def __init__(self, runner: Runner, row_id: str, folder: Path) -> None:
        self._runner, self._row_id, self._folder = runner, row_id, folder
        self.runs = 0

    def run(self, kind: str, params: Mapping[str, Any], *rest: Any, resident: str, **options: Any) -> dict[str, Any]:
        self.runs += 1
        python = poisoned_python(resident, self._row_id, self._folder)
        return self._runner.run(kind, params, *rest, resident=python, **options)


# vLLM in process


def test_outputs_have_the_shape_of_any_engine_and_repeat(generated: Generate) -> None:
    rows = prompts(80)
    too_long = pl.DataFrame({"row_id": ["long"], "candidate": [0], "prompt": ["word " * 2000]})
    rows = pl.concat([too_long, rows])
    first, again, other = (generated(engine, rows) for engine in ("vllm", "vllm", "transformers"))
    assert first.schema == other.schema
    assert first.select("row_id", "candidate", "prompt").equals(rows)
    assert first.equals(again)
    assert first["prompt_tokens"].equals(other["prompt_tokens"])
    assert first.row(0, named=True) | {"prompt": ""} == other.row(0, named=True) | {"prompt": ""}
    assert first["output"][0] == ""
    assert not first["finished"][0]
    assert first["finished"].sum() > 20
    assert first["output"][1:].n_unique() > 70  # candidates of one prompt differ
    assert first["error"].null_count() == first.height


def test_greedy_decoding_agrees_with_transformers(generated: Generate) -> None:
    vllm, transformers = (generated(engine, prompts(40), temperature=0.0) for engine in ("vllm", "transformers"))
    assert same_share(vllm, transformers) >= 0.95  # sums in another order may turn a tie
    same = vllm["output"] == transformers["output"]
    assert vllm.filter(same)["output_tokens"].equals(transformers.filter(same)["output_tokens"])
    assert vllm.filter(same)["finished"].equals(transformers.filter(same)["finished"])


def check_schema(free: pl.DataFrame, held: pl.DataFrame) -> None:
    """`held` follows a schema that its prompts do not ask for."""
    keys = set(TASK_TYPES["matching_short"].keys)
    finished = held.filter("finished")
    assert finished.height >= 20  # the others ran out of tokens
    assert all(set(json.loads(output)) == keys for output in finished["output"])
    assert all(output.startswith("{") for output in held["output"])
    assert same_share(free, held) < 0.1


def test_a_schema_holds_the_model_to_it(generated: Generate) -> None:
    free, held = (generated("vllm", prompts(40), schema=schema, tokens=150) for schema in (None, OTHER_SCHEMA))
    check_schema(free, held)


def test_two_adapters_share_a_base_and_differ(generated: Generate, adapters: list[ModelSource]) -> None:
    rows = prompts(40)
    one, two, none = (generated("vllm", rows, source, temperature=0.0) for source in adapters)
    assert same_share(one, two) < 0.2
    assert same_share(one, none) < 0.2
    for ours, source in ((one, adapters[0]), (two, adapters[1]), (none, BASE)):
        assert same_share(ours, generated("transformers", rows, source, temperature=0.0)) >= 0.9


@pytest.mark.parametrize("engine", ["vllm", "vllm_server"])
@pytest.mark.parametrize(
    ("kind", "words"),
    [("misnamed", "modules are none of the base's, such as more.model.layers.0"), ("zero", "lora_B weights are 0")],
)
def test_an_adapter_that_vllm_would_not_apply_ends_the_job_before_a_row(
    generated: Generate, adapters: list[ModelSource], tmp_path: Path, engine: str, kind: str, words: str
) -> None:
    from safetensors.torch import load_file, save_file

    assert adapters[0].adapter is not None
    broken = tmp_path / kind
    shutil.copytree(adapters[0].adapter, broken)
    weights = load_file(broken / "adapter_model.safetensors")
    if kind == "zero":
        weights = {name: part * ("lora_B" not in name) for name, part in weights.items()}
    else:
        weights = {name.replace(".model.", ".model.more.", 1): part for name, part in weights.items()}
    save_file(weights, broken / "adapter_model.safetensors")
    source = ModelSource(BASE.model, None, str(broken))
    with pytest.raises(WorkerFailed, match=words):
        generated(engine, prompts(4), source, folder=f"{kind}-job")
    assert not list((tmp_path / f"{kind}-job" / "generate" / "journal").glob("*.rows.jsonl"))


# vLLM as a server


def test_a_server_gives_what_the_engine_gives(generated: Generate, adapters: list[ModelSource]) -> None:
    rows = pl.concat([prompts(60), pl.DataFrame({"row_id": ["long"], "candidate": [0], "prompt": ["word " * 2000]})])
    server = {source: generated("vllm_server", rows, source) for source in adapters[:2]}
    engine = {source: generated("vllm", rows, source) for source in adapters[:2]}
    for source in server:
        assert server[source].schema == engine[source].schema
        assert same_share(server[source], engine[source]) >= 0.9
        assert server[source]["prompt_tokens"].equals(engine[source]["prompt_tokens"])
    assert same_share(server[adapters[0]], server[adapters[1]]) < 0.2


def test_a_schema_holds_a_served_model_to_it(generated: Generate, adapters: list[ModelSource]) -> None:
    """With the adapter that hardly does anything, so that the server that is loaded serves."""
    free, held = (
        generated("vllm_server", prompts(40), adapters[2], schema=schema, tokens=150) for schema in (None, OTHER_SCHEMA)
    )
    check_schema(free, held)


# vLLM on Ray


def with_engine(job: GenerationJob, runner: Runner, *rest: Any) -> pl.DataFrame:
    """The outputs of a shard, and the process of the engine that gave them."""
    outputs = generator.generate_locally(job, runner, *rest)
    assert runner._resident is not None
    return outputs.with_columns(engine=runner._resident._process.pid)


def test_shards_on_ray_come_from_one_vllm_that_stays(
    generated: Generate, runners: dict[str, Runner], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in CONNECTING.items():  # before anything imports Ray
        monkeypatch.setenv(name, value)
    here = str(Path(__file__).parent)
    monkeypatch.syspath_prepend(here)
    from test_generation import with_engine as work  # by the name that nodes know it by

    rows = prompts(60)
    params = {
        **{"model": BASE.model, "revision": None, "adapter": None, "dtype": RECIPE.generator.dtype, "seed": 1},
        **{"batch_rows": 32, "schema": None, "gpu_memory_share": 0.9, "max_model_length": None},
        **Sampling(temperature=1.0, max_new_tokens=60).model_dump(),
    }
    job = GenerationJob("vllm", params, None, 0, kept=True)
    shards = [Shard(str(number), rows[20 * number : 20 * number + 20]) for number in range(3)]
    nodes = Nodes({"PYTHONPATH": os.pathsep.join((str(PROJECT), str(PROJECT / "tests"), here))})
    driver = Runner(tmp_path / "home", threads=2, warm=False)
    try:
        nodes.add(cpus=2)
        settings = Cluster(kind="ray", address=nodes.address, cpus_per_shard=2)
        found = run_shards(RayShards(settings, driver, 2), partial(work, job), shards, tmp_path / "done")
    finally:
        driver.close()
        nodes.close()
    assert found["engine"].n_unique() == 1
    here_again = generated("vllm", rows)
    assert found.select("row_id", "candidate").equals(rows.select("row_id", "candidate"))
    assert same_share(found, here_again) >= 0.95  # sums in another order may turn a tie


# Faults, last: each kill costs the start of an engine


def test_a_killed_worker_resumes_at_the_row(runner: Runner, generated: Generate, tmp_path: Path) -> None:
    rows = prompts(300)
    journal = tmp_path / "cut" / "generate" / "journal"

    def kill(done: int, total: int, _note: str) -> None:
        if done >= 60:
            assert runner._resident is not None
            os.kill(runner._resident._process.pid, signal.SIGKILL)

    with pytest.raises(WorkerFailed, match="SIGKILL"):
        generated("vllm", rows, folder="cut", progress=kill)
    (file,) = journal.glob("*.rows.jsonl")
    before = file.read_bytes()
    kept = before.count(b"\n")
    assert 60 <= kept < 300
    file.write_bytes(before + b'{"position": 299, "outp')  # torn by the kill
    resumed = generated("vllm", rows, folder="cut")
    assert file.read_bytes().startswith(before)
    assert file.read_bytes().count(b"\n") == 300  # no row was generated again
    assert 0 < result(tmp_path / "cut")["generation_tokens"] < result(tmp_path / "cut")["output_tokens"]
    assert resumed.equals(generated("vllm", rows))


def test_a_poisonous_row_is_quarantined_and_the_job_continues(
    runner: Runner, generated: Generate, tmp_path: Path
) -> None:
    rows = prompts(12).filter(pl.col("candidate") == 0)
    faulty = Faulty(runner, "r3", tmp_path)
    outputs = generated("vllm", rows, restarts=3, runner=faulty)
    assert faulty.runs == 3  # all rows under way; that row alone; the others
    bad, good = outputs.filter(pl.col("row_id") == "r3"), outputs.filter(pl.col("row_id") != "r3")
    assert "engine died twice on this row: SIGKILL" in bad["error"].item()
    assert (bad["output"].item(), bad["finished"].item()) == ("", False)
    assert good.equals(generated("vllm", rows).filter(pl.col("row_id") != "r3"))
