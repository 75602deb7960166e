"""Which rows of people the rules and filters of a recipe reject, and which planted bad rows they find.

`python -m benchmarks.human_rows --data FOLDER` makes rows as SPEED's out of sets that lie in a folder: retrieval from
`xquad_en` and `med_beir`, classification from `banking77`, `clinc150` and `amazon_counterfactual`, STS from `stsb` (pairs from 4
on, the negative from a pair of the first sentence below 3 where there is one); and once more as rows from passages, whose rules
are others (long matching: pairs of abstracts relevant to one query). Each set is cut into two halves by a hash
of its texts. Thresholds were chosen with `--half choose`; what is reported is the other half. The rule on lengths is not asked:
nobody was asked for a length. True finds are no errors and are counted apart: rows whose query is, but for case and
punctuation, that of another row (`near_duplicate`), and rows of which a text stands, word for word, in the other sets or in the
other half (`contamination`).

Planted rows (`planted_rows.py`) are cut in halves too. Last line: one JSON object.

`--show RULE` prints rows that went and rows that stayed.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import random
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from resources.inputs.evaluation_sets import local_texts
from resources.inputs.prompt_files import prompt_set
from speed_assets.assets.triplets import filtered
from speed_assets.domain.attributes import draw_attributes
from speed_assets.domain.fingerprints import seed_for
from speed_assets.domain.folding import fold
from speed_assets.domain.given_texts import with_classes
from speed_assets.domain.prompts import PromptSet
from speed_assets.domain.rows import PROMPT_ECHO, parse_outputs
from speed_assets.domain.rules import first_broken_rules
from speed_assets.domain.task_types import TASK_TYPES
from speed_assets.recipe import FinalTriplets, load_recipe
from tests.support.planted_rows import PLANTED

BOUND_RULE, BOUND_ALL = 0.01, 0.02
SETS = ("xquad_en", "med_beir", "banking77", "clinc150", "amazon_counterfactual", "stsb")
_COPIED_WORDS = 8  # a run of so many words in common is a true copy
Row = dict[str, Any]


def half_of(name: str) -> str:
    """`choose` or `report`, by a hash."""
    return "report" if hashlib.sha256(name.encode()).digest()[0] % 2 else "choose"


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    opened = gzip.open(file, "rt", encoding="utf-8") if file.suffix == ".gz" else file.open(encoding="utf-8")
    with opened as lines:
        yield from map(json.loads, lines)


def _table(file: Path) -> pl.DataFrame:
    return pl.read_csv(file, separator="\t", quote_char=None, infer_schema=False)


def _retrieval(folder: Path, task: str, half_by: str) -> Iterator[Row]:
    packed = ".gz" if (folder / "corpus.jsonl.gz").exists() else ""
    corpus = {
        line["_id"]: f"{line.get('title') or ''}\n{line['text']}".strip()
        for line in _lines(folder / f"corpus.jsonl{packed}")
    }
    queries = {line["_id"]: line["text"] for line in _lines(folder / f"queries.jsonl{packed}")}
    names = list(corpus)
    place = {name: number for number, name in enumerate(names)}
    file = folder / "qrels.tsv"
    judged = _table(file if file.exists() else folder / "qrels" / "test.tsv")
    right: dict[str, set[str]] = defaultdict(set)
    for query, document, score in judged.iter_rows():
        if float(score) > 0:
            right[query].add(document)
    for query, documents in right.items():
        if query not in queries:
            continue
        # The nearest documents in the file are of the same article: no hard negatives, but no strangers either.
        # Of two that are as near the earlier one, or the order of a set would decide, which differs from run to run.
        middle = place[min(documents)]
        others = iter(sorted(set(names) - documents, key=lambda name: (abs(place[name] - middle), place[name])))
        for document in sorted(documents):
            yield {
                "task_type": "retrieval", "task": task, "query": queries[query], "positive": corpus[document],
                "negative": corpus[next(others)], "half": half_of(document if half_by == "document" else query),
            }  # fmt: skip


def _classification(folder: Path, task: str, names: dict[str, str]) -> Iterator[Row]:
    frame = pl.concat(
        [_table(file).select("text", "label") for file in sorted(folder.glob("*.tsv")) if "oos" not in file.name]
    )
    labels = sorted(frame["label"].unique())
    said = {label: names.get(label, label.replace("_", " ")) for label in labels}
    for text, label in frame.unique(maintain_order=True).iter_rows():
        other = random.Random(text).choice([name for name in labels if name != label])
        yield {
            "task_type": "classification", "task": task, "query": text, "positive": said[label], "negative": said[other],
            "half": half_of(text),
        }  # fmt: skip


def _sts(folder: Path) -> Iterator[Row]:
    frame = pl.concat([_table(file) for file in sorted(folder.glob("*.tsv"))]).with_columns(
        pl.col("score").cast(pl.Float64)
    )
    unlike = dict(frame.filter(pl.col("score") < 3).select("sentence1", "sentence2").iter_rows())
    strangers = frame.filter(pl.col("score") < 3)["sentence2"].to_list()
    # One sentence may be in several pairs: its first row has the negative that people graded, the others a stranger.
    for one, other, _ in frame.filter(pl.col("score") >= 4).unique(maintain_order=True).iter_rows():
        yield {
            "task_type": "sts", "task": "Everyday sentences", "query": one, "positive": other,
            "negative": unlike.pop(one, None) or random.Random(one + other).choice(strangers), "half": half_of(one),
        }  # fmt: skip


def _as_from_passages(kind: str, rows: Iterator[Row], classes: bool = False) -> Iterator[Row]:
    """Rows of people as rows whose given text, or whose positive, is a passage; a classification task names its classes."""
    kept = list(rows)
    labels = sorted({row["positive"] for row in kept})
    for row in kept:
        yield {**row, "task_type": kind, "task": with_classes(row["task"], labels) if classes else row["task"]}


def _of_one_query(rows: Iterator[Row]) -> Iterator[Row]:
    """Pairs of documents that people judged relevant to one query, each document once: they match as long texts."""
    by_query: dict[str, list[Row]] = defaultdict(list)
    taken: set[str] = set()
    for row in rows:
        if row["positive"] not in taken:
            taken.add(row["positive"])
            by_query[row["query"]].append(row)
    for group in by_query.values():
        for one, other in zip(group[::2], group[1::2], strict=False):
            yield {**one, "query": one["positive"], "positive": other["positive"], "half": half_of(one["positive"])}


def rows_of_passages(data: Path) -> dict[str, Iterator[Row]]:
    """Rows of people as the rules of rows from passages read them (`grounded_rules.py`), by set and kind."""
    question, abstracts = "Given a question, find the paragraph that answers it", "Find abstracts that are about it"
    xquad, med = (partial(_retrieval, data / "xquad_en", question, "document"), partial(_retrieval, data / "med_beir", abstracts, "query"))  # fmt: skip
    banking = _classification(data / "banking77", "Tell the intent of what a customer asks a bank.", {})
    clinc = _classification(data / "clinc150", "Tell the intent of what somebody says to an assistant.", {})
    related = "Match an abstract with another on the same subject"
    return {
        "xquad_en grounded": _as_from_passages("grounded", xquad()),
        "med_beir grounded": _as_from_passages("grounded", med()),
        "banking77 grounded_classification": _as_from_passages("grounded_classification", banking, classes=True),
        "clinc150 grounded_classification": _as_from_passages("grounded_classification", clinc, classes=True),
        "stsb grounded_sts": _as_from_passages("grounded_sts", _sts(data / "stsb")),
        "med_beir grounded_matching_long": (
            {**row, "task_type": "grounded_matching_long", "task": related} for row in _of_one_query(med())
        ),
    }


def human_rows(data: Path) -> dict[str, pl.DataFrame]:
    """Rows of every set, whole, with the half that each is in."""
    made: dict[str, Iterator[Row]] = {
        "xquad_en": _retrieval(data / "xquad_en", "Given a question, find the paragraph that answers it", "document"),
        "med_beir": _retrieval(
            data / "med_beir", "Given a question, find the medical abstracts that are about it", "query"
        ),
        "banking77": _classification(data / "banking77", "Classify customers' questions to a bank by intent", {}),
        "clinc150": _classification(data / "clinc150", "Classify what people say to an assistant by intent", {}),
        "amazon_counterfactual": _classification(
            data / "amazon_counterfactual",
            "Tell whether a sentence of a review says what might have been",
            {"0": "not counterfactual", "1": "counterfactual"},
        ),
        "stsb": _sts(data / "stsb"),
        **rows_of_passages(data),
    }
    return {
        name: pl.DataFrame(list(rows)).with_columns(
            row_id=pl.format("{}-{}", pl.lit(name), pl.int_range(pl.len())), topic=pl.lit(name), valid=pl.lit(True)
        )
        for name, rows in made.items()
    }


class Truth:
    """Whether a text really stands in the evaluation texts: as a whole, or in a run of eight words."""

    def __init__(self, texts: list[str]) -> None:
        self.whole, self.runs = set(), set()
        for text in texts:
            words = fold(text).split()
            self.whole.add(" ".join(words))
            self.runs |= {" ".join(words[at : at + _COPIED_WORDS]) for at in range(len(words) - _COPIED_WORDS + 1)}

    def holds(self, text: str) -> bool:
        words = fold(text).split()
        runs = {" ".join(words[at : at + _COPIED_WORDS]) for at in range(len(words) - _COPIED_WORDS + 1)}
        return " ".join(words) in self.whole or bool(runs & self.runs)


def rejected_rows(
    rows: pl.DataFrame, half: str, section: FinalTriplets, others: dict[str, list[str]]
) -> dict[str, Any]:
    """Rejected rows of one half of a set: {rows, wrong: {rule: rows}, true: {rule: rows}} and the finds."""
    asked = rows.filter(pl.col("half") == half)
    rest = rows.filter(pl.col("half") != half)
    evaluation = others | {
        "the other half": [
            *rest["query"],
            *rest.filter(~pl.col("task_type").str.ends_with("classification"))["positive"],
        ]
    }
    truth = Truth([text for texts in evaluation.values() for text in texts])
    funnel = filtered(asked.drop("half"), section, evaluation, seed=1)
    gone = funnel.quarantine.select("row_id", "reason", "detail").join(asked, on="row_id")
    said: defaultdict[str, int] = defaultdict(int)
    folded_queries = {row: f"{fold(query)}" for row, query in asked.select("row_id", "query").iter_rows()}
    for text in folded_queries.values():
        said[text] += 1
    wrong: dict[str, list[Row]] = defaultdict(list)
    true: dict[str, int] = defaultdict(int)
    for row in gone.iter_rows(named=True):
        rule = row["reason"].partition("_exact")[0].partition("_ngram")[0]
        rule = "contamination" if rule.startswith("contamination") else rule
        copied = rule == "contamination" and any(
            truth.holds(row[field] or "") for field in ("query", "positive", "negative")
        )
        repeated = rule.startswith("near_duplicate") and said[folded_queries[row["row_id"]]] > 1
        if copied or repeated:
            true[rule] += 1
        else:
            wrong[rule].append(row)
    return {"rows": asked.height, "wrong": wrong, "true": dict(true), "kept": funnel.rows}


def echoes(rows: pl.DataFrame, prompts: PromptSet) -> list[Row]:
    """Rows that would count as `prompt_echo`, had their writers been given the prompts of a recipe."""
    found: list[Row] = []
    for (task_type,), group in rows.group_by("task_type", maintain_order=True):
        kind = TASK_TYPES[str(task_type)]
        asked = [
            prompts.synthesis(kind.name, task, draw_attributes(kind.name, seed_for(1, "attributes", row_id)), None)
            for row_id, task in group.select("row_id", "task").iter_rows()
        ]
        answers = [
            json.dumps({key: row[field] for key, field in zip(kind.keys, kind.fields, strict=True)})
            for row in group.iter_rows(named=True)
        ]
        read = parse_outputs(
            group.drop("query", "positive", "negative", "valid").with_columns(
                prompt=pl.Series(asked), output=pl.Series(answers)
            ),
            kind.name,
        )
        found += read.filter(pl.col("problem") == PROMPT_ECHO).to_dicts()
    return found


def planted_found(half: str, section: FinalTriplets) -> dict[str, dict[str, float]]:
    """For each rule the share of its planted rows that is rejected, and the share rejected for the rule's own reason."""
    found = {}
    for rule, planted in PLANTED.items():
        rows = pl.DataFrame(
            [{"row_id": f"{rule}-{number}", "valid": True, **row} for number, row in enumerate(planted)],
            infer_schema_length=None,
        )[0 if half == "choose" else 1 :: 2]
        # Planted rows share queries and negatives, so rules that compare rows are off, except the one that is measured.
        across_rows = {"repeated_negative", "negative_is_positive"}
        settings = section.rules.model_dump(exclude={"skip"})
        reasons = first_broken_rules(rows, **settings, skip=tuple(across_rows - {rule}), seed=1)["reason"]
        if "right" in rows.columns:  # the first row of a query keeps its negative
            reasons, rows = reasons.filter(~rows["right"]), rows.filter(~rows["right"])
        own = int((reasons == rule).sum())
        found[rule] = {
            "rows": rows.height,
            "found": round(reasons.count() / rows.height, 4),
            "for_this_reason": round(own / rows.height, 4),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--recipe", default="laptop")
    parser.add_argument("--half", choices=["choose", "report"], default="report")
    parser.add_argument("--show", metavar="RULE", help="print rows that this rule rejects, and rows that pass")
    parser.add_argument("--rows", type=int, default=50, help="of --show")
    args = parser.parse_args()
    recipe = load_recipe(args.recipe)
    prompts = prompt_set(recipe.prompts)
    section = recipe.final_triplets
    section = section.model_copy(update={"rules": section.rules.model_copy(update={"length_tolerance": None})})
    texts = local_texts(str(args.data / name) for name in SETS)
    sets: dict[str, Any] = {}
    holds = True
    for name, rows in human_rows(args.data).items():
        others = {other: group for other, group in texts.items() if other != name.split()[0]}
        seen = rejected_rows(rows, args.half, section, others)
        from_topics = rows.filter(half=args.half).filter(~pl.col("task_type").str.starts_with("grounded"))
        if repeated := echoes(from_topics, prompts):
            seen["wrong"][PROMPT_ECHO] = [{**row, "detail": PROMPT_ECHO} for row in repeated]
        wrong = {rule: round(len(found) / seen["rows"], 5) for rule, found in sorted(seen["wrong"].items())}
        in_all = round(sum(map(len, seen["wrong"].values())) / seen["rows"], 5)
        true = {rule: round(count / seen["rows"], 5) for rule, count in sorted(seen["true"].items())}
        sets[name] = {"rows": seen["rows"], "wrong": wrong, "wrong_in_all": in_all, "true_finds": true}
        if name in SETS:  # rules of passages are for what a model writes from one: people's vocabulary may be another
            holds &= in_all <= BOUND_ALL and max(wrong.values(), default=0) <= BOUND_RULE
        print(
            f"{name:22} {seen['rows']:>6} rows, wrongly rejected {in_all:.2%}: {wrong}; true finds {true}", flush=True
        )
        if args.show:
            for row in seen["wrong"].get(args.show, [])[: args.rows]:
                print(
                    "  gone",
                    *(repr((row[key] or "")[:300]) for key in ("detail", "query", "positive", "negative")),
                    sep=" | ",
                )
            for row in seen["kept"].sample(min(args.rows, seen["kept"].height), seed=1).iter_rows(named=True):
                print("  stay", *(repr((row[key] or "")[:200]) for key in ("query", "positive", "negative")), sep=" | ")
    planted = planted_found(args.half, section)
    for rule, figures in planted.items():
        print(f"planted {rule:22} {figures}")
    print("The rule on lengths is not asked: nobody asked these writers for a length.")
    print(json.dumps({"half": args.half, "sets": sets, "bounds_hold": holds, "planted_found": planted}))


if __name__ == "__main__":
    main()
