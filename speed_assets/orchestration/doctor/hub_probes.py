"""Probes of repositories of a hub: what it says of a model or a data set, and whether this account may read it.

No file is downloaded. Belongs here: asking a hub, and what it says of a data set. Not here: what it says of a model
(`model_probes.py`), files on this machine.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from speed_assets.orchestration.doctor.finding import Finding, error, ok, warning
from speed_assets.recipe import Corpus, CorpusDataset

HUB_S = 6.0
"""Seconds that one answer of a hub may take."""
_PLAIN_SPLIT = re.compile(r"\w+")
"""A split as a data set names it; others are parts or sums of some."""


@dataclass(frozen=True, slots=True)
class Repository:
    """A model or data set of a hub, and the field of the recipe that names it."""

    name: str
    revision: str | None
    field: str
    kind: Literal["model", "dataset"] = "model"

    @property
    def finding(self) -> str:
        """The name of findings about it."""
        return "model" if self.kind == "model" else "corpus"


def offline() -> bool:
    """Whether this environment forbids asking a hub."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def ask_hub(one: Repository) -> Any:
    """What a hub says of a repository; a `Finding` where there is a problem."""
    from huggingface_hub import HfApi, errors

    api, name, what = HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None), one.finding, _WORDS[one.kind]
    try:
        info = api.repo_info(
            one.name, repo_type=one.kind, revision=one.revision, timeout=HUB_S, files_metadata=one.kind == "model"
        )
        if info.gated:
            api.auth_check(one.name, repo_type=one.kind)
    except errors.GatedRepoError:
        words = f"{one.name} is gated: this account has not accepted its licence"
        return error(name, words, f"accept it on the {what}'s page, and set HF_TOKEN; or {one.field}")
    except errors.RevisionNotFoundError:
        return error(name, f"{one.name} has no revision {one.revision}", f"{one.field.rpartition('.')[0]}.revision")
    except (errors.RepositoryNotFoundError, errors.HFValidationError):
        words = f"the hub has no {what} {one.name} that this account may read"
        return error(name, words, f"{one.field}, or HF_TOKEN for a private one")
    except Exception as problem:  # a client of many layers: whatever went wrong, the run is not to end for it here
        words = f"the hub cannot be asked for {one.name} now ({type(problem).__name__})"
        return warning(name, words, f"check the network or the proxy, or {one.field}: a folder")
    return info


_WORDS = {"model": "model", "dataset": "data set"}


def hub_dataset(section: Corpus, dataset: CorpusDataset, *, network: bool) -> Finding:
    """What is to be reported of a data set on a hub."""
    if offline():
        words = f"whether {dataset.name} is in this machine's cache is seen when it is loaded: HF_HUB_OFFLINE forbids to ask a hub"
        return warning("corpus", words, "unset HF_HUB_OFFLINE, or corpus.dataset.name: a folder")
    if not network:
        return ok("corpus", f"{dataset.name}: a run loads this data set")
    told = ask_hub(Repository(dataset.name, dataset.revision, "corpus.dataset.name", "dataset"))
    return told if isinstance(told, Finding) else _of_card(section, dataset, told)


def _of_card(section: Corpus, dataset: CorpusDataset, info: Any) -> Finding:
    """Whether the columns and the split are there, as far as the data set's card names its own."""
    card = info.card_data or {}
    features, splits = (_named(card.get("dataset_info"), dataset.config, part) for part in ("features", "splits"))
    if features and (missing := [column for column in section.columns.text if column not in features]):
        words = f"{dataset.name} has no column {', '.join(missing)}: it has {', '.join(features)}"
        return error("corpus", words, "corpus.columns.text")
    if splits and _PLAIN_SPLIT.fullmatch(dataset.split) and dataset.split not in (*splits, "all"):
        words = f"{dataset.name} has no split {dataset.split}: it has {', '.join(splits)}"
        return error("corpus", words, "corpus.dataset.split")
    return ok("corpus", f"{dataset.name}: a data set of the hub, licence {card.get('license') or 'not stated'}")


def _named(described: Any, config: str | None, part: str) -> list[str]:
    """Names of features or splits of a configuration in a card; [] where it is not clear which they are."""
    entries = [one for one in (described if isinstance(described, list) else [described]) if isinstance(one, Mapping)]
    if len(entries) > 1 or config is not None:
        entries = [one for one in entries if one.get("config_name", "default") == (config or "default")]
    found = entries[0].get(part) if len(entries) == 1 else None
    return (
        [str(one["name"]) for one in found if isinstance(one, Mapping) and "name" in one]
        if isinstance(found, list)
        else []
    )
