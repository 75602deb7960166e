"""Instructions and prompts before a text that is embedded: the same in training and in evaluation.

Two ways, by what the model has:

- **An instruction** (`Instruct: {task}\\nQuery: {query}`, E5-mistral): a task with two sides (retrieval, matching,
  classification with its label) has it before queries only, a symmetric one (STS) before every text. Evaluation does the
  same: mteb asks for the prompt of queries, or of no side at all, and passages have none.
- **Prompts of its own** (`query: ` and `passage: `, or one for each type of task): chosen by the rule by which mteb chooses
  them (`prompt_of`), so that training sees what evaluation will show.

Belongs here: which instruction or prompt a text gets, and the published instructions. Not here: putting them before texts
(`workers/embed.py`, `workers/encoders.py`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal

from speed_assets.domain.fingerprints import digest
from speed_assets.domain.task_types import STS_TYPES

Side = Literal["query", "document"]

SYMMETRIC = STS_TYPES
"""Task types whose two sides are of one kind: every text has the instruction (E5-mistral, arXiv 2401.00368, section 3.1)."""

SIMILARITY_WORDINGS = (
    "Retrieve semantically similar text.",
    "Retrieve texts that mean the same as the given text.",
    "Find a text that says the same in other words.",
    "Given a sentence, retrieve sentences of the same meaning.",
)
"""Instructions that STS rows are trained under. The first is the one that E5-mistral publishes for STS (arXiv 2401.00368,
table 13), and that mteb asks with; the others are ours, so that the model does not learn one string."""

_DOCUMENTS = ("document", "passage", "corpus")
"""Names that models give to the prompt of documents, in the order in which sentence-transformers looks for them."""
_ASKED_AS: dict[str, tuple[tuple[str, Side | None], tuple[str, Side | None]]] = {
    "classification": (("Classification", None), ("Retrieval", "document")),
    "retrieval": (("Retrieval", "query"), ("Retrieval", "document")),
    "sts": (("STS", None), ("STS", None)),
    "matching_short": (("Retrieval", "query"), ("Retrieval", "document")),
    "matching_long": (("Retrieval", "query"), ("Retrieval", "document")),
    "grounded": (("Retrieval", "query"), ("Retrieval", "document")),
    "grounded_classification": (("Classification", None), ("Retrieval", "document")),
    "grounded_sts": (("STS", None), ("STS", None)),
    "grounded_matching_long": (("Retrieval", "query"), ("Retrieval", "document")),
}
"""By task type: as what mteb embeds its queries, and as what its positives and negatives: a type of task and a side."""


def instruction_of(task_type: str, task: str, row_id: str, wordings: Sequence[str] = SIMILARITY_WORDINGS) -> str:
    """What `{task}` of an instruction template is filled with for a row.

    Args:
        task_type: One of `TASK_TYPE_NAMES`.
        task: The row's task. Of STS it is a topic, which is no instruction, and is not used.
        row_id: Names the draw of a wording, so that a row has the same one in every training.
        wordings: Instructions for STS; a recipe's `embedding_model.sts_instructions`.

    >>> instruction_of("retrieval", "Find the recipe of a dish.", "r1")
    'Find the recipe of a dish.'
    >>> instruction_of("sts", "Arts > Music", "r1", ["Retrieve semantically similar text."])
    'Retrieve semantically similar text.'
    """
    if task_type not in SYMMETRIC:
        return task
    return wordings[int(digest(["sts instruction", row_id])[:8], 16) % len(wordings)]


def prompt_of(prompts: Mapping[str, str], kind: str, side: Side | None, task: str | None = None) -> str:
    """The prompt that mteb puts before a text, or "" for none: the most specific of the model's prompts.

    Args:
        prompts: A model's prompts by name: of a task, of a type of task, of a side, or `TYPE-side`.
        kind: mteb's type of the task (`Retrieval`, `STS`, ...).
        side: Of the text; None where the task has no sides.
        task: mteb's name of the task; None in training.

    >>> prompt_of({"query": "query: ", "document": "passage: "}, "Retrieval", "query")
    'query: '
    >>> prompt_of({"query": "query: ", "STS": "sentence similarity: "}, "STS", None)
    'sentence similarity: '
    """
    wanted: list[str] = []
    for name in (task, kind):
        if name:
            wanted += [f"{name}-{side}", name] if side else [name]
    if side:
        wanted.append(side)
    return next((prompts[key] for key in wanted if key in prompts), "")


def trained_prompts(prompts: Mapping[str, str], task_type: str, default: str = "") -> tuple[str, str]:
    """The prompts of a row's query and of its positive and negative, as evaluation will put them before such texts.

    `default` is what the model puts before texts that have no prompt of their own (`default_prompt_name`).

    >>> trained_prompts({"query": "query: ", "document": "passage: "}, "matching_long")
    ('query: ', 'passage: ')
    """
    query, document = (prompt_of(prompts, *asked) for asked in _ASKED_AS[task_type])
    return query or default, document or default


def with_document_prompt(prompts: Mapping[str, str]) -> dict[str, str]:
    """The prompts with that of documents under the name `document`, where a model calls it `passage` or `corpus`.

    sentence-transformers gives every model an empty `document`, which it finds first, and mteb knows no other name: a
    `passage: ` would never be used.

    >>> with_document_prompt({"query": "query: ", "document": "", "passage": "passage: "})["document"]
    'passage: '
    """
    found = next((prompts[name] for name in _DOCUMENTS if prompts.get(name)), "")
    return {**prompts, "document": found}


PUBLISHED: dict[str, str] = {
    # Retrieval
    "ArguAna": "Given a claim, find documents that refute the claim",
    "ClimateFEVER": "Given a claim about climate change, retrieve documents that support or refute the claim",
    "CQADupstack": "Given a question, retrieve detailed question descriptions from Stackexchange that are duplicates to the "
    "given question",
    "DBPedia": "Given a query, retrieve relevant entity descriptions from DBPedia",
    "FEVER": "Given a claim, retrieve documents that support or refute the claim",
    "FiQA2018": "Given a financial question, retrieve user replies that best answer the question",
    "HotpotQA": "Given a multi-hop question, retrieve documents that can help answer the question",
    "MSMARCO": "Given a web search query, retrieve relevant passages that answer the query",
    "NFCorpus": "Given a question, retrieve relevant documents that best answer the question",
    "NQ": "Given a question, retrieve Wikipedia passages that answer the question",
    "Quora": "Given a question, retrieve questions that are semantically equivalent to the given question",
    "SCIDOCS": "Given a scientific paper title, retrieve paper abstracts that are cited by the given paper",
    "SciFact": "Given a scientific claim, retrieve documents that support or refute the claim",
    "Touche2020": "Given a question, retrieve detailed and persuasive arguments that answer the question",
    "TRECCOVID": "Given a query on COVID-19, retrieve documents that answer the query",
    # Reranking
    "AskUbuntuDupQuestions": "Retrieve duplicate questions from AskUbuntu forum",
    "MindSmall": "Retrieve relevant news articles based on user browsing history",
    "SciDocsRR": "Given a title of a scientific paper, retrieve the titles of other relevant papers",
    "StackOverflowDupQuestions": "Retrieve duplicate questions from StackOverflow forum",
    # Clustering
    "ArxivClusteringP2P": "Identify the main and secondary category of Arxiv papers based on the titles and abstracts",
    "ArxivClusteringS2S": "Identify the main and secondary category of Arxiv papers based on the titles",
    "BiorxivClusteringP2P": "Identify the main category of Biorxiv papers based on the titles and abstracts",
    "BiorxivClusteringS2S": "Identify the main category of Biorxiv papers based on the titles",
    "MedrxivClusteringP2P": "Identify the main category of Medrxiv papers based on the titles and abstracts",
    "MedrxivClusteringS2S": "Identify the main category of Medrxiv papers based on the titles",
    "RedditClustering": "Identify the topic or theme of Reddit posts based on the titles",
    "RedditClusteringP2P": "Identify the topic or theme of Reddit posts based on the titles and posts",
    "StackExchangeClustering": "Identify the topic or theme of StackExchange posts based on the titles",
    "StackExchangeClusteringP2P": "Identify the topic or theme of StackExchange posts based on the given paragraphs",
    "TwentyNewsgroupsClustering": "Identify the topic or theme of the given news articles",
    # Classification
    "AmazonCounterfactualClassification": "Classify a given Amazon customer review text as either counterfactual or "
    "not-counterfactual",
    "AmazonPolarityClassification": "Classify Amazon reviews into positive or negative sentiment",
    "AmazonReviewsClassification": "Classify the given Amazon review into its appropriate rating category",
    "Banking77Classification": "Given a online banking query, find the corresponding intents",
    "EmotionClassification": "Classify the emotion expressed in the given Twitter message into one of the six emotions: "
    "anger, fear, joy, love, sadness, and surprise",
    "ImdbClassification": "Classify the sentiment expressed in the given movie review text from the IMDB dataset",
    "MassiveIntentClassification": "Given a user utterance as query, find the user intents",
    "MassiveScenarioClassification": "Given a user utterance as query, find the user scenarios",
    "MTOPDomainClassification": "Classify the intent domain of the given utterance in task-oriented conversation",
    "MTOPIntentClassification": "Classify the intent of the given utterance in task-oriented conversation",
    "ToxicConversationsClassification": "Classify the given comments as either toxic or not toxic",
    "TweetSentimentExtractionClassification": "Classify the sentiment of a given tweet as either positive, negative, or "
    "neutral",
    # Pairs and summaries
    "SprintDuplicateQuestions": "Retrieve duplicate questions from Sprint forum",
    "TwitterSemEval2015": "Retrieve tweets that are semantically similar to the given tweet",
    "TwitterURLCorpus": "Retrieve tweets that are semantically similar to the given tweet",
    "SummEval": "Given a news summary, retrieve other semantically similar summaries",
}
"""Instructions by mteb task, as E5-mistral publishes them (arXiv 2401.00368, table 13, and its repository's `utils.py`); STS
tasks have one for all of them. Where mteb carries an instruction of a task, that one is asked with, and it is the same."""

_VARIANT = re.compile(r"(\.v\d+|[.-]?HardNegatives|Retrieval|Reranking|Summarization)+$")
_FORUM = re.compile(r"^CQADupstack\w*$")


def published_instruction(task: str) -> str | None:
    """The published instruction of an mteb task, also of its later versions: `FEVERHardNegatives`, `Touche2020Retrieval.v3`,
    a forum of CQADupstack. None where nobody has published one.

    >>> published_instruction("HotpotQAHardNegatives.v2")
    'Given a multi-hop question, retrieve documents that can help answer the question'
    """
    name = task.replace("ArXivHierarchical", "Arxiv")
    for candidate in (name, _bare(name)):
        if candidate in PUBLISHED:
            return PUBLISHED[candidate]
    return PUBLISHED["CQADupstack"] if _FORUM.match(name) else None


def _bare(task: str) -> str:
    return _VARIANT.sub("", task)
