"""Each family of generators through SFT, DPO, merging and generation: exact token ids, the end taught, the adapter seen."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import polars as pl
import pytest
import torch
from peft import PeftModel
from test_workers_text import silent, training_job
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl.trainer.dpo_trainer import DataCollatorForPreference
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from speed_assets.workers import dpo, generate, likelihood, order, sft
from speed_assets.workers.dialogue import Dialogue, choose_pad, declared_ends
from tests.support.families import BY_NAME, CHATML, FAMILIES, FORGETS_THOUGHTS, Family, write_family

Params = dict[str, Any]
ORIGIN = {"base": "tiny", "revision": None, "digest": "0" * 64}
LORA = {"r": 8, "alpha": 16, "dropout": 0.0}
ANSWERS = {"up": "down", "left": "right", "hot": "cold", "in": "out"}
PROMPTS = {word: f"Topic: {word}. Answer as a JSON object." for word in ANSWERS}
ROWS = pl.DataFrame(
    [{"prompt": PROMPTS[word], "completion": json.dumps({"answer": ANSWERS[word]})} for word in ANSWERS] * 8
)
PAIRS = ROWS.select("prompt", pl.col("completion").alias("chosen"), pl.lit('{"answer": "no"}').alias("rejected"))


TRAINED_FIRST = ("llama-3-instruct", "mistral", "qwen-3-thinking")
"""Families that `make test` trains to the end: a chat template, none, and one with thoughts. `make test-faults` trains the others."""
trained = pytest.mark.parametrize(
    "family",
    [
        pytest.param(family, id=family.name, marks=() if family.name in TRAINED_FIRST else pytest.mark.faults)
        for family in FAMILIES
    ],
    indirect=True,
)


@pytest.fixture(scope="module", params=FAMILIES, ids=lambda family: family.name)
def family(request: pytest.FixtureRequest) -> Family:
    found: Family = request.param
    return found


@pytest.fixture(scope="module")
def base(family: Family, tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_family(family, tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def tokenizer(base: str) -> Any:
    return AutoTokenizer.from_pretrained(base)


@pytest.fixture(scope="module")
def junior(base: str, tmp_path_factory: pytest.TempPathFactory) -> Params:
    """A job whose result is an adapter on the base."""
    params = training_job(base, tmp_path_factory.mktemp("junior"), ROWS, max_length=None, lora=LORA, epochs=2)
    params |= {"origin": ORIGIN, "answer_tokens": 40}
    sft.run(params, silent)
    return params


def expected(family: Family, tokenizer: Any, prompt: str) -> list[int]:
    """The ids that a prompt is to have, from the tokenizer's own rules alone."""
    backend = tokenizer.backend_tokenizer
    text = family.asked.format(prompt=prompt)
    ids: list[int] = backend.encode(text, add_special_tokens=family.asked == "{prompt}").ids
    return ids


def trained_rows(params: Params) -> datasets.Dataset:
    (folder,) = Path(params["folder"]).glob("checkpoints/*/rows")
    return datasets.load_from_disk(folder)


def generated(model: str, folder: Path, adapter: str | None = None, **changes: Any) -> pl.DataFrame:
    folder.mkdir()
    rows = [{"row_id": word, "candidate": 0, "prompt": prompt} for word, prompt in PROMPTS.items()]
    pl.DataFrame(rows).write_parquet(folder / "prompts.parquet")
    params = {
        **{"model": model, "revision": None, "adapter": adapter, "dtype": "float32", "seed": 1},
        **{"temperature": 0.0, "top_p": 1.0, "max_new_tokens": 24, "batch_rows": 3},
        **{name: str(folder / name) for name in ("journal",)},
        **{"prompts": str(folder / "prompts.parquet"), "out": str(folder / "out.parquet"), **changes},
    }
    generate.run(params, silent)
    return pl.read_parquet(folder / "out.parquet")


def test_a_prompt_is_read_as_the_family_reads_it(family: Family, base: str, tokenizer: Any) -> None:
    dialogue = Dialogue(tokenizer, "auto", declared_ends(base))
    (ids,) = dialogue.prompt_ids([PROMPTS["up"]])
    assert ids == expected(family, tokenizer, PROMPTS["up"])
    start = family.start
    if start is not None:
        assert [place for place, token in enumerate(ids) if token == tokenizer.convert_tokens_to_ids(start)] == [0]
    assert dialogue.templated == (family.asked != "{prompt}")
    assert tokenizer.convert_ids_to_tokens(dialogue.end) == family.end
    assert set(family.declared) | {family.names["eos"]} == set(tokenizer.convert_ids_to_tokens(list(dialogue.ends)))
    plain = Dialogue(tokenizer, "never", declared_ends(base))
    assert plain.prompt_ids(["a word"]) == [tokenizer.backend_tokenizer.encode("a word").ids]
    assert plain.end == tokenizer.eos_token_id


def templated(template: str, folder: Path) -> Dialogue:
    """The dialogue of a model like Qwen3 with another template."""
    other = replace(BY_NAME["qwen-3"], template=template)
    base = write_family(other, folder)
    return Dialogue(AutoTokenizer.from_pretrained(base), "auto", declared_ends(base))


def test_a_thought_that_no_turn_shows_is_closed_by_its_tag(tmp_path: Path) -> None:
    (text,) = templated(FORGETS_THOUGHTS, tmp_path / "tag").texts(["a question"])
    assert text.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    (text,) = templated(FORGETS_THOUGHTS.replace("<think>", "[THINK]"), tmp_path / "mistral").texts(["a question"])
    assert text.endswith("[THINK]\n\n[/THINK]\n\n")


@pytest.mark.parametrize(
    "template",
    [
        FORGETS_THOUGHTS.replace("<think>\n", "<think>\nFirst, "),
        CHATML.replace("assistant\n{% endif %}", "assistant<|channel|>analysis{% endif %}"),
        CHATML + "{# <|channel|> is what the model begins with #}",
    ],
)
def test_a_thought_of_which_nobody_knows_the_end_is_refused(template: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"generator\.chat to never, or take a base that can answer without thinking"):
        templated(template, tmp_path)


def test_what_is_trained_is_what_is_generated_and_its_end(family: Family, junior: Params, tokenizer: Any) -> None:
    rows = trained_rows(junior)
    end = tokenizer.convert_tokens_to_ids(family.end)
    prompts = {tuple(expected(family, tokenizer, prompt)): word for word, prompt in PROMPTS.items()}
    seen = set()
    for row in rows:
        learnt = sum(label != -100 for label in row["labels"])
        head, tail = row["input_ids"][:-learnt], row["input_ids"][-learnt:]
        word = prompts[tuple(head)]
        seen.add(word)
        assert row["labels"] == [-100] * len(head) + tail
        assert tail[-1] == end
        assert tail.count(end) == 1
        assert json.loads(tokenizer.decode(tail, skip_special_tokens=True)) == {"answer": ANSWERS[word]}
        whole = tokenizer.backend_tokenizer.encode(
            family.asked.format(prompt=PROMPTS[word]) + json.dumps({"answer": ANSWERS[word]}),
            add_special_tokens=family.asked == "{prompt}",
        )
        assert row["input_ids"] == [*whole.ids, end]
    assert seen == set(ANSWERS)


def test_padding_hides_no_end(family: Family, junior: Params, base: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(base)
    choose_pad(tokenizer, Dialogue(tokenizer, "auto", declared_ends(base)).end)
    end = tokenizer.convert_tokens_to_ids(family.end)
    assert tokenizer.pad_token == family.pad
    assert tokenizer.pad_token_id != end
    saved = AutoTokenizer.from_pretrained(Path(junior["out"], "adapter"))
    assert saved.pad_token == family.pad
    rows = list(trained_rows(junior))
    short = {name: values[2:] for name, values in rows[0].items()}
    batch = DataCollatorForLanguageModeling(pad_token_id=tokenizer.pad_token_id)([short, rows[0]])
    assert (batch["labels"] == end).sum() == 2
    assert batch["labels"][0, -2:].tolist() == [-100, -100]


@trained
def test_preferences_keep_the_prompt_and_the_end(
    family: Family, base: str, tokenizer: Any, junior: Params, tmp_path: Path
) -> None:
    adapter = str(Path(junior["out"], "adapter"))
    params = training_job(base, tmp_path / "dpo", PAIRS, max_length=None, lora=LORA, beta=0.1, nll_weight=0.0)
    result = dpo.run({**params, "adapter": adapter, "origin": ORIGIN}, silent)
    assert result["judged"][0]["reward_accuracy"] > 0.9
    end = tokenizer.convert_tokens_to_ids(family.end)
    prompts = {tuple(expected(family, tokenizer, prompt)) for prompt in PROMPTS.values()}
    rows = list(trained_rows(params))
    for row in rows:
        assert tuple(row["prompt_ids"]) in prompts
        assert row["chosen_ids"][-1] == row["rejected_ids"][-1] == end
    batch = DataCollatorForPreference(pad_token_id=end)([rows[0], {**rows[1], "prompt_ids": rows[1]["prompt_ids"][3:]}])
    taught = batch["input_ids"][batch["completion_mask"].bool()]
    assert (taught == end).sum() == 4  # by length, so that even a pad that is an end hides none

    senior = str(Path(params["out"], "adapter"))
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    ids = torch.tensor([expected(family, tokenizer, PROMPTS["up"])])
    with torch.no_grad():
        plain = model(ids).logits
        by_junior = PeftModel.from_pretrained(model, adapter)(ids).logits
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        by_senior = PeftModel.from_pretrained(model, senior)(ids).logits
    assert (plain - by_junior).abs().max() > 1e-2
    assert (by_senior - by_junior).abs().max() > 1e-3

    full = training_job(base, tmp_path / "full", PAIRS, max_length=None, beta=0.1, nll_weight=0.0, epochs=0.3)
    full["settings"]["learning_rate"] = 1e-6
    dpo.run({**full, "adapter": adapter, "origin": ORIGIN}, silent)
    merged = generated(str(Path(full["out"], "model")), tmp_path / "merged")
    assert merged["output"].to_list() == generated(base, tmp_path / "adapted", adapter)["output"].to_list()


@trained
def test_an_end_that_is_taught_stops_a_generation(family: Family, base: str, tokenizer: Any, tmp_path: Path) -> None:
    before = generated(base, tmp_path / "before")
    params = training_job(base, tmp_path / "sft", ROWS, max_length=None, epochs=16, learning_rate=3e-3)
    sft.run(params, silent)
    after = generated(str(Path(params["out"], "model")), tmp_path / "after")
    lengths = [len(expected(family, tokenizer, prompt)) for prompt in PROMPTS.values()]
    assert after["prompt_tokens"].to_list() == before["prompt_tokens"].to_list() == lengths
    found = {row: json.loads(output) for row, output in after.select("row_id", "output").iter_rows()}
    assert found == {word: {"answer": answer} for word, answer in ANSWERS.items()}
    assert after["finished"].all()
    assert not any(name in output for output in after["output"] for name in family.special)
    assert before["output"].to_list() != after["output"].to_list()
    saved = Path(params["out"], "model")
    assert set(declared_ends(str(saved))) == set(Dialogue(tokenizer, "auto", declared_ends(base)).ends)
    read(family, str(saved), tokenizer, tmp_path / "read")


def read(family: Family, model: str, tokenizer: Any, folder: Path) -> None:
    """Likelihoods follow the prompt as it was trained, and the order is that of the generation."""
    folder.mkdir()
    rows = ROWS[:4].select(
        pl.Series("row_id", list(ANSWERS)),
        "prompt",
        pl.col("completion").alias("record"),
        pl.lit(None, pl.Int64).alias("value"),
    )
    rows.write_parquet(folder / "rows.parquet")
    job = {"model": model, "dtype": "float32", "rows": str(folder / "rows.parquet"), "out": str(folder / "out.parquet")}
    likelihood.run({**job, "journal": str(folder / "journal"), "batch_rows": 3}, silent)
    found = pl.read_parquet(folder / "out.parquet")["least_likely"].to_list()
    assert all(-0.5 < value < 0 for value in found), found
    pl.DataFrame(
        [{"row_id": word, "candidate": 0, "prompt": prompt} for word, prompt in PROMPTS.items()]
    ).write_parquet(folder / "prompts.parquet")
    files = {"prompts": str(folder / "prompts.parquet"), "out": str(folder / "order.parquet")}
    order.run({"model": model, **files}, silent)
    lengths = [len(expected(family, tokenizer, prompt)) for prompt in PROMPTS.values()]
    places = pl.read_parquet(folder / "order.parquet")["position"].to_list()
    assert [lengths[place] for place in places] == sorted(lengths)


# Texts that spell a special token, and tokenizers that forget one


def test_an_answer_that_spells_the_end_is_taught_in_pieces(tmp_path: Path) -> None:
    base = write_family(BY_NAME["smollm-2-instruct"], tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(base)
    dialogue = Dialogue(tokenizer, "auto", declared_ends(base))
    (ids,) = dialogue.answer_ids(["say"], ["it ends with <|im_end|> here"])
    assert ids.count(dialogue.end) == 1
    assert ids[-1] == dialogue.end
    assert tokenizer.decode(ids[:-1]) == "it ends with <|im_end|> here"
    assert dialogue.dropped([ids, *dialogue.answer_ids(["a"], ["b <|im_start|> c"])]) == {"<|im_start|>": 1}


def test_a_tokenizer_that_ends_every_text_ends_no_prompt(tmp_path: Path) -> None:
    from tokenizers import processors

    base = write_family(BY_NAME["mistral"], tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(base)
    special = [("<s>", tokenizer.bos_token_id), ("</s>", tokenizer.eos_token_id)]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> <s> $B </s>", special_tokens=special
    )
    dialogue = Dialogue(tokenizer, "auto", declared_ends(base))
    (prompt,), (answer,) = dialogue.prompt_ids(["a word"]), dialogue.answer_ids(["a word"], [" and more"])
    assert tokenizer.eos_token_id not in prompt
    assert answer.count(tokenizer.eos_token_id) == 1
    assert tokenizer.decode(prompt + answer, skip_special_tokens=True) == "a word and more"


def test_a_template_that_ends_no_turn_is_not_used(tmp_path: Path) -> None:
    base = write_family(BY_NAME["qwen-2.5-instruct"], tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(base)
    for template in ("{% for turn in messages %}{{ turn.content }}\n{% endfor %}", "{{ raise_exception('no') }}"):
        tokenizer.chat_template = template
        assert not Dialogue(tokenizer, "auto", declared_ends(base)).templated
