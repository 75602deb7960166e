"""Trains the base language model that the offline recipe fine-tunes: `make base-model`.

Run once, for as long as it needs; the result is shipped in `speed_assets/microworld/base/`. The gate
is taken on topics whose words were never seen, sampling at temperature 1.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import random
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import wordfreq
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from speed_assets.microworld import pretraining
from speed_assets.microworld import toy_language as lang

PAD, END = "<|pad|>", "<|end|>"
VOCABULARY = 3072
POOL_BATCHES = 64
GATE_RECORDS = 6_000
"""Records of the last gate: the standard error of a share is 0.3 points; of 600 it is 0.9."""
TOPIC_WEIGHT = 2.0
"""Weight in the loss of a token of the topic: copying it is the bottleneck, and never a matter of taste."""
CONFIG: dict[str, Any] = {
    "hidden_size": 160,
    "intermediate_size": 448,
    "num_hidden_layers": 4,
    "num_attention_heads": 5,
    "num_key_value_heads": 5,
    "head_dim": 32,
    "max_position_embeddings": 1024,
    "rope_theta": 10_000.0,
    "tie_word_embeddings": True,
}


def words() -> tuple[list[str], list[str]]:
    """English words for topics: (training, held out). One in twelve is held out, by hash."""
    plain = [w for w in wordfreq.top_n_list("en", 30_000) if re.fullmatch(r"[a-z]{3,12}", w)]
    held_out = {w for w in plain if hashlib.sha256(w.encode()).digest()[0] % 12 == 0}
    return [w for w in plain if w not in held_out], sorted(held_out)


def train_tokenizer(train_words: list[str], rng: random.Random) -> PreTrainedTokenizerFast:
    """Byte-level BPE: common words of the world are one piece, rare topics two or three."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    stream = pretraining.practice_examples(train_words, rng, pretraining.Practice(pretraining.LATE_MIXTURE))
    texts = [e.given + e.learn + "\n" for e, _ in zip(stream, range(30_000), strict=False)]
    pieces = (
        "classification retrieval sts matching_short matching_long task query document query_length "
        "user_query positive_document hard_negative_document input_text label misleading_label S1 S2 S3 input "
        "reason revision null best worst high school college PhD words sentence phrase passage clear ambiguous "
        "understandable with some effort extremely long-tail long tail common short long revise judge fine"
    )
    texts += [pieces, pieces.replace(" ", '", "'), json.dumps({p: p for p in pieces.split()})] * 400
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, eos_token=END, padding_side="left", model_max_length=1024
    )


def build_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> Qwen3ForCausalLM:
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        **CONFIG,
    )
    return Qwen3ForCausalLM(config)


@dataclass(frozen=True, slots=True)
class Encoded:
    """The pieces of one example with its end, each with the weight of its loss (0 where none is taken)."""

    ids: list[int]
    weights: list[float]


def encode(examples: list[pretraining.Example], tokenizer: PreTrainedTokenizerFast) -> list[Encoded]:
    rows = tokenizer([e.given + e.learn for e in examples], return_offsets_mapping=True)
    encoded = []
    for example, ids, offsets in zip(examples, rows["input_ids"], rows["offset_mapping"], strict=True):
        start, text = len(example.given), example.given + example.learn
        copies = [match.span() for match in re.finditer(re.escape(example.topic), text)]
        weights = [
            0.0
            if end <= start
            else TOPIC_WEIGHT
            if any(begin < right and left < end for left, right in copies)
            else 1.0
            for begin, end in offsets
        ]
        encoded.append(Encoded([*ids, tokenizer.eos_token_id], [*weights, 1.0]))
    return encoded


def batches(
    stream: Iterator[pretraining.Example], tokenizer: PreTrainedTokenizerFast, size: int, rng: random.Random
) -> Iterator[dict[str, torch.Tensor]]:
    """Endless batches of examples of like length, in random order, so that little of a batch is padding.

    Each holds right-padded (rows, length) `input_ids`, and the `targets` and `weights` (rows, length - 1) of the next token.
    """
    while True:
        pool = sorted(encode(list(islice(stream, POOL_BATCHES * size)), tokenizer), key=lambda e: len(e.ids))
        starts = list(range(0, len(pool), size))
        rng.shuffle(starts)
        for start in starts:
            rows = pool[start : start + size]
            shape = len(rows), max(len(row.ids) for row in rows)
            input_ids, weights = torch.full(shape, tokenizer.pad_token_id), torch.zeros(shape)
            for place, row in enumerate(rows):
                input_ids[place, : len(row.ids)] = torch.tensor(row.ids)
                weights[place, : len(row.ids)] = torch.tensor(row.weights)
            yield {"input_ids": input_ids, "targets": input_ids[:, 1:], "weights": weights[:, 1:]}


@torch.inference_mode()
def sample(model: Any, tokenizer: PreTrainedTokenizerFast, prompts: list[str], temperature: float = 1.0) -> list[str]:
    model.eval()
    encoded = tokenizer(prompts, return_tensors="pt", padding=True, return_token_type_ids=False).to(model.device)
    out = model.generate(**encoded, do_sample=True, temperature=temperature, top_k=0, top_p=1.0, max_new_tokens=110)
    model.train()
    return tokenizer.batch_decode(out[:, encoded["input_ids"].shape[1] :], skip_special_tokens=True)


def gate(
    model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, held_out: list[str], rows: int
) -> dict[str, float]:
    """Shares over records and edits on topics never seen, at T=1."""
    rng = random.Random(7)
    torch.manual_seed(7)
    cases, prompts = [], []
    for _ in range(rows):
        topic = " ".join(rng.choice(held_out) for _ in range(rng.choice((1, 2, 2, 3))))
        aspect = rng.choice(lang.ASPECTS)
        cases.append((topic, aspect))
        prompts.append(f'{aspect} of {topic}\n"ask", "text", "near"\n')
    outputs = [o for i in range(0, rows, 100) for o in sample(model, tokenizer, prompts[i : i + 100])]
    valid = on_topic = aspect_right = 0
    for (topic, aspect), output in zip(cases, outputs, strict=True):
        try:
            record = json.loads(output)
        except ValueError:
            continue
        if not isinstance(record, dict) or set(record) != {"ask", "text", "near"}:
            continue
        valid += 1
        readings = {key: lang.read_text(str(text), topic) for key, text in record.items()}
        on_topic += all(reading.on_topic for reading in readings.values())
        aspect_right += (
            readings["ask"].aspect == aspect
            and readings["text"].aspect == aspect
            and readings["near"].aspect == lang.SIBLING[aspect]
        )
    edits: list[pretraining.Example] = []
    while len(edits) < rows // 2:
        topics = [" ".join(rng.choice(held_out) for _ in range(2)) for _ in range(2)]
        edits.append(
            pretraining.edit_example(topics[0], topics[1], pretraining.Practice(pretraining.LATE_MIXTURE), rng)
        )
    answers = [
        a for i in range(0, len(edits), 100) for a in sample(model, tokenizer, [e.given for e in edits[i : i + 100]])
    ]
    fine = [a for e, a in zip(edits, answers, strict=True) if e.learn.endswith("; fine")]
    off = [(e, a) for e, a in zip(edits, answers, strict=True) if not e.learn.endswith("; fine")]
    return {
        "valid": valid / rows,
        "topic": on_topic / rows,
        "aspect": aspect_right / rows,
        "edit_left_alone": sum(answer.endswith("; fine") for answer in fine) / max(len(fine), 1),
        "edit_faults_found": sum(_found(answer) == _found(e.learn) for e, answer in off) / max(len(off), 1),
    }


def _found(answer: str) -> list[bool]:
    """Which fields an edit calls off."""
    return [reading.endswith(" off") for reading in answer.partition("; ")[0].split(", ")]


def train(args: argparse.Namespace) -> None:
    torch.set_num_threads(args.threads)
    rng = random.Random(args.seed)
    train_words, held_out = words()
    run = Pretraining(args, train_words)
    curriculum = pretraining.CURRICULUM[-1:] if args.start else pretraining.CURRICULUM
    streams = [
        (until, batches(pretraining.practice_examples(train_words, rng, practice), run.tokenizer, args.batch, rng))
        for until, practice in curriculum
    ]
    run.resume()
    if run.resumed:
        rng.seed(args.seed + run.step)
    started, next_gate, losses = time.monotonic(), time.monotonic() + args.gate_every, []
    while run.seen < args.tokens:
        share = run.seen / args.tokens
        stream = next(stream for until, stream in streams if share < until)
        losses.append(run.learn(next(stream), share))
        if run.step % 50 == 0:
            rate = run.seen / (time.monotonic() - started)
            print(f"step {run.step} tokens {run.seen:,} loss {sum(losses[-50:]) / 50:.3f} {rate:.0f} tok/s", flush=True)
        if time.monotonic() > next_gate:
            run.judge(held_out, 200)
            run.keep()
            next_gate = time.monotonic() + args.gate_every
    run.judge(held_out, GATE_RECORDS)
    (args.out / "state.pt").unlink(missing_ok=True)


class Pretraining:
    """Model, optimizers and history of one training; `resumed` from a state on disk or begun."""

    def __init__(self, args: argparse.Namespace, train_words: list[str]) -> None:
        self.args = args
        self.resumed = bool(args.resume and (args.out / "state.pt").exists())
        # Another tokenizer, even one trained alike, would give the saved embeddings other meanings.
        self.tokenizer = (
            PreTrainedTokenizerFast.from_pretrained(args.out if self.resumed else args.start)
            if self.resumed or args.start
            else train_tokenizer(train_words, random.Random(args.seed))
        )
        self.model = build_model(self.tokenizer, args.seed).to(args.device)
        if args.start:
            weights = Qwen3ForCausalLM.from_pretrained(args.start, dtype=torch.float32)
            self.model.load_state_dict(weights.state_dict())
        total = sum(p.numel() for p in self.model.parameters())
        sizes = {"weights": total, "vocabulary": len(self.tokenizer), "words": len(train_words)}
        print(json.dumps(sizes), flush=True)
        named = list(self.model.named_parameters())
        matrices = [p for n, p in named if p.ndim == 2 and "embed" not in n and "lm_head" not in n]
        others = [p for _, p in named if not any(p is m for m in matrices)]
        self.optimizers: list[torch.optim.Optimizer] = [
            torch.optim.Muon(matrices, lr=args.muon_lr, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(others, lr=args.lr, betas=(0.9, 0.95), weight_decay=0.0),
        ]
        self.seen = self.step = 0
        self.history: list[dict[str, Any]] = []

    def resume(self) -> None:
        """Take weights, optimizers and counts from the state on disk, if there is one to resume from."""
        if not self.resumed:
            return
        state = torch.load(self.args.out / "state.pt", weights_only=True)
        self.model.load_state_dict(state["model"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.seen, self.step = state["seen"], state["step"]

    def learn(self, cpu_batch: dict[str, torch.Tensor], share: float) -> float:
        """One step at `share` of the training; its loss."""
        batch = {key: value.to(self.args.device) for key, value in cpu_batch.items()}
        hidden = self.model.model(input_ids=batch["input_ids"]).last_hidden_state[:, :-1]
        chosen = batch["weights"] > 0  # the output layer runs only where there is a loss
        each = F.cross_entropy(self.model.lm_head(hidden[chosen]), batch["targets"][chosen], reduction="none")
        weights = batch["weights"][chosen]
        loss = (each * weights).sum() / weights.sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        scale = min(1.0, (self.step + 1) / 100) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * share)))
        for optimizer, peak in zip(self.optimizers, (self.args.muon_lr, self.args.lr), strict=True):
            optimizer.param_groups[0]["lr"] = peak * scale
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.seen += batch["input_ids"].numel()
        self.step += 1
        return loss.item()

    def judge(self, held_out: list[str], records: int) -> None:
        """Ask the gate, print and keep what it finds, and save the model."""
        found = gate(self.model, self.tokenizer, held_out, records)
        self.history.append({"step": self.step, "tokens": self.seen, **found})
        print(json.dumps(self.history[-1]), flush=True)
        save(self.model, self.tokenizer, self.args.out, self.history, self.args)

    def keep(self) -> None:
        """Write the state that a later run resumes from."""
        state = {
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "seen": self.seen,
            "step": self.step,
        }
        torch.save(state, self.args.out / "state.pt")


def save(
    model: Qwen3ForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    out: Path,
    history: list[dict[str, Any]],
    args: argparse.Namespace,
) -> None:
    """Half precision on disk: the file stays under 8 MB, and fine-tuning reads it as float32."""
    out.mkdir(parents=True, exist_ok=True)
    state = {k: v.detach().to("cpu", torch.float16) for k, v in model.state_dict().items() if k != "lm_head.weight"}
    model.save_pretrained(out, state_dict=state, safe_serialization=True)
    config = json.loads((out / "config.json").read_text())
    config["dtype"] = "float16"
    (out / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    tokenizer.save_pretrained(out)
    settings = {k: v for k, v in vars(args).items() if k not in ("out", "resume", "start", "threads", "device")}
    (out / "training.json").write_text(json.dumps({"settings": settings, "gate": history}, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "speed_assets" / "microworld" / "base")
    parser.add_argument("--tokens", type=int, default=30_000_000, help="tokens seen, padding counted")
    parser.add_argument("--batch", type=int, default=48, help="examples in a step")
    parser.add_argument("--lr", type=float, default=3e-3, help="AdamW: embeddings and norms")
    parser.add_argument("--muon-lr", type=float, default=6e-3, help="Muon: the matrices inside the layers")
    parser.add_argument("--seed", type=int, default=20241018)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--gate-every", type=float, default=600, help="seconds between two gates")
    parser.add_argument("--start", type=Path, help="begin from this model, with the last part of the curriculum")
    parser.add_argument("--resume", action="store_true", help="resume from the last gate")
    train(parser.parse_args())


if __name__ == "__main__":
    main()
