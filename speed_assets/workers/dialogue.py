"""How a model is asked and where its answer ends, in token ids: the same in training, in generation and in reading.

A prompt is a user's turn of the tokenizer's chat template where the model was trained with one, and plain text otherwise.
The answer follows the prompt's tokens, and one end token follows the answer: it is what training teaches, and what
stops a generation. Nothing is thought in between: a thought that a template opens by itself is closed in the prompt.

Belongs here: prompts and answers as token ids. Not here: the contents of a prompt, batching, and nothing that an engine's
environment may lack.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from transformers import AutoConfig, GenerationConfig

TODAY = "26 Jul 2024"
"""The day that templates which write a date get (LLaMA 3.1's own default): with the true one, prompts of today would
differ from those that were trained on yesterday."""
_CLOCK = "{% macro strftime_now(form) %}" + TODAY + "{% endmacro %}"
"""Put before a template that asks for the day by this function (LLaMA 3.2, SmolLM3)."""
TEMPLATE: dict[str, Any] = {
    "enable_thinking": False,  # Qwen3, SmolLM3
    "thinking": False,  # Granite, DeepSeek
    "date_string": TODAY,  # LLaMA 3.1
}
"""Values that templates get; each reads the names that it knows and ignores the others."""
_QUESTION, _ANSWER = "A question of five words?", "An answer of forty-two words."
PADS = (
    "<|finetune_right_pad_id|>",
    "<pad>",
    "[PAD]",
    "<|pad|>",
    "<unk>",
    "[UNK]",
    "<|fim_pad|>",
    "<|reserved_special_token_0|>",
)
"""Names of tokens that nothing is to learn, in the order in which they are taken for padding."""


_THOUGHT_OPENS = re.compile(r"<(think(?:ing)?|thought|reasoning)>\s*\Z|\[(THINK)\]\s*\Z")
"""How a prompt ends whose template begins a thought by itself (Qwen3-Thinking, DeepSeek-R1, QwQ)."""
_THOUGHT = re.compile(r"<(/?)(?:think(?:ing)?|thought|reasoning)>|\[(/?)THINK\]")
_CHANNELS = ("<|channel|>", "<|message|>")
"""Tokens of OpenAI's harmony format (gpt-oss): an answer is in the channel `final`, after its message token."""

Located = tuple[list[int], list[tuple[int, int]]]
"""Token ids of a text, and where in it each begins and stops, in characters."""


class Dialogue:
    """The tokens of prompts and answers for one model.

    Args:
        tokenizer: the model's own, of the transformers kind.
        chat: `auto` uses the tokenizer's chat template where it has one and the model declares that it stops at the end of
            a turn; `never` asks in plain text. (A base model may carry the template of its instruction-tuned twin
            without ever having been trained to end a turn; adapters do not reach the output layer that would have to.)
        declared: end tokens that the model itself names (`declared_ends`).

    Raises:
        ValueError: the model has no end token, so its outputs would never finish.
    """

    def __init__(self, tokenizer: Any, chat: str = "auto", declared: Sequence[int] = ()) -> None:
        self.tokenizer = tokenizer
        eos = tokenizer.eos_token_id
        known = {*declared, *([] if eos is None else [eos])}
        turn = self._turn_end() if chat == "auto" and getattr(tokenizer, "chat_template", None) else None
        self.templated = turn in known
        """Whether prompts are turns of the chat template."""
        if not known:
            raise ValueError(f"{tokenizer.name_or_path} names no end token: a model trained on it would never stop")
        self.end: int = turn if self.templated and turn is not None else min(known) if eos is None else eos
        """The token that ends an answer: taught in training."""
        self.ends: tuple[int, ...] = tuple(sorted(known))
        """Tokens at which a generation stops."""
        self._lead = self._lead_in() if self.templated else ""

    def texts(self, prompts: Sequence[str]) -> list[str]:
        """Prompts as the model reads them, before they are cut into tokens."""
        if not self.templated:
            return list(prompts)
        return [self._rendered([_user(prompt)], add_generation_prompt=True) + self._lead for prompt in prompts]

    def prompt_ids(self, prompts: Sequence[str]) -> list[list[int]]:
        """Token ids of prompts. A start token occurs once: either the template or the tokenizer puts it there."""
        return self._encode(self.texts(prompts))

    def answer_ids(self, prompts: Sequence[str], answers: Sequence[str]) -> list[list[int]]:
        """Token ids of answers, each as it follows its prompt, with the end token.

        The tokens are those of the full text after the prompt's own. Where a token would reach over the border between
        the two, which no generation can write, the answer is cut into tokens by itself. The end token stands nowhere
        but at the end: a text that spells it is taught in pieces.
        """
        return [[*ids, self.end] for ids, _ in self.located(prompts, answers)]

    def located(self, prompts: Sequence[str], answers: Sequence[str]) -> list[Located]:
        """As `answer_ids`, without the end token; and where in the answer each token begins and stops."""
        found = []
        for text, head, answer in zip(self.texts(prompts), self.prompt_ids(prompts), answers, strict=True):
            located = self._after(text, head, answer, add_special_tokens=not self.templated) or self._alone(answer)
            if self.end in located[0]:
                located = self._alone(answer, split_special_tokens=True)
            found.append(located)
        return found

    def dropped(self, answers: Iterable[Sequence[int]]) -> dict[str, int]:
        """Special tokens inside answers, and how often: a served model's text comes without them (`skip_special_tokens`), so
        their meaning is lost."""
        special = self._special()
        counted = Counter(token for ids in answers for token in ids if token in special and token != self.end)
        return {self.tokenizer.convert_ids_to_tokens(token): count for token, count in counted.most_common()}

    def _special(self) -> set[int]:
        named = {number for number, token in self.tokenizer.added_tokens_decoder.items() if token.special}
        return {*self.tokenizer.all_special_ids, *named}

    def _alone(self, answer: str, **how: Any) -> Located:
        """The tokens of an answer after any text: a line break does, where it stays apart, since some tokenizers
        begin each text with a space of their own."""
        line = self.tokenizer("\n", add_special_tokens=False, **how)["input_ids"]
        found = self._after("\n", line, answer, add_special_tokens=False, **how)
        return found or self._after("", [], answer, add_special_tokens=False, **how) or ([], [])

    def _after(self, before: str, head: list[int], answer: str, **how: Any) -> Located | None:
        """The tokens of `before + answer` after `head`, those of `before`; None where it does not begin with them."""
        read = self.tokenizer(before + answer, return_offsets_mapping=True, **how)
        ids = (
            _without_end(read["input_ids"], self.tokenizer.eos_token_id)
            if how["add_special_tokens"]
            else read["input_ids"]
        )
        if ids[: len(head)] != head:
            return None
        places = read["offset_mapping"][len(head) : len(ids)]
        return ids[len(head) :], [(begin - len(before), stop - len(before)) for begin, stop in places]

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        if not texts:
            return []
        ids: list[list[int]] = self.tokenizer(list(texts), add_special_tokens=not self.templated)["input_ids"]
        # Some tokenizers put the end token after every text; a prompt that has ended is not answered.
        return ids if self.templated else [_without_end(row, self.tokenizer.eos_token_id) for row in ids]

    def _turn_end(self) -> int | None:
        """The first special token after an assistant's answer in the template, or None if there is none."""
        try:
            rendered = self._rendered([_user(_QUESTION), {"role": "assistant", "content": _ANSWER}])
        except Exception:  # what a template may raise is anybody's choice
            return None
        _, found, rest = rendered.rpartition(_ANSWER)
        special = self._special()
        return next((token for token in self._alone(rest)[0] if token in special), None) if found and rest else None

    def _lead_in(self) -> str:
        """What the template puts between the beginning of an assistant's turn and an answer without a thought.

        Models that always think open a thought at the beginning of a turn, and gpt-oss names a channel. Rows are taught and
        asked for without thoughts, so the thought is closed at once, and the channel is the one of answers: as the template
        itself writes a turn that has no thought, or else by the thought's closing tag.

        Raises:
            ValueError: a thought, or a channel that is not for answers, would stay open.
        """
        asked = self._rendered([_user(_QUESTION)], add_generation_prompt=True)
        rendered = self._rendered([_user(_QUESTION), {"role": "assistant", "content": _ANSWER}])
        before = rendered.rpartition(_ANSWER)[0]
        lead = before.removeprefix(asked) if before.startswith(asked) else ""
        if not lead.strip():  # a mere space or line break is the model's to write
            opened = _THOUGHT_OPENS.search(asked)
            lead = f"\n{f'</{opened[1]}>' if opened[1] else '[/THINK]'}\n\n" if opened else ""
        turn = asked.rpartition(_QUESTION)[2] + lead
        tags = _THOUGHT.findall(turn)
        channel, message = (turn.rfind(token) for token in _CHANNELS)
        unnamed = channel < 0 and _CHANNELS[0] in str(self.tokenizer.chat_template)
        if (tags and not any(tags[-1])) or message < channel or unnamed:
            raise ValueError(
                f"{self.tokenizer.name_or_path}: its chat template begins every answer with a thought, and how the thought "
                "ends cannot be read from it: set generator.chat to never, or take a base that can answer without thinking"
            )
        return lead

    def _rendered(self, turns: list[dict[str, str]], **how: Any) -> str:
        template = self.tokenizer.chat_template
        if isinstance(template, str) and "strftime_now" in template:
            how["chat_template"] = _CLOCK + template
        text: str = self.tokenizer.apply_chat_template(turns, tokenize=False, **how, **TEMPLATE)
        return text


def _user(prompt: str) -> dict[str, str]:
    return {"role": "user", "content": prompt}


def _without_end(ids: list[int], end: int | None) -> list[int]:
    while ids and ids[-1] == end:
        ids = ids[:-1]
    return ids


def declared_ends(model: str, revision: str | None = None) -> tuple[int, ...]:
    """The end tokens that a model's own files name: its generation configuration, or else its configuration.

    Args:
        model: folder or hub name.
        revision: hub revision, or None.
    """
    readers: tuple[Callable[..., Any], ...] = (GenerationConfig.from_pretrained, AutoConfig.from_pretrained)
    for read in readers:
        try:
            found = read(model, revision=revision, trust_remote_code=False)
        except OSError:
            continue  # many a folder has no generation configuration
        named = getattr(found, "eos_token_id", None)
        if named is not None:
            return tuple(named) if isinstance(named, list | tuple) else (named,)
    return ()


def dialogue_of(tokenizer: Any, model: str, revision: str | None, chat: str | None) -> Dialogue:
    """The dialogue of a job.

    Args:
        tokenizer: the model's own, of the transformers kind.
        model: folder or hub name.
        revision: hub revision, or None.
        chat: `auto` or `never`; None is `auto`.
    """
    return Dialogue(tokenizer, chat or "auto", declared_ends(model, revision))


def choose_pad(tokenizer: Any, end: int) -> None:
    """Give the tokenizer a padding token other than `end`, the token that is taught, so that padding can never hide it.

    A tokenizer's own stays where it is another; else its token for the unknown, or the first of `PADS` that it has. Where
    it has none of them, the end token pads: training masks by length, so that the end is taught all the same.
    """
    if tokenizer.pad_token_id is not None and tokenizer.pad_token_id != end:
        return
    known = tokenizer.get_vocab()
    named = [tokenizer.unk_token, *PADS] if tokenizer.unk_token else list(PADS)
    found = next((name for name in named if known.get(name, end) != end), None)
    tokenizer.pad_token = found or tokenizer.eos_token
