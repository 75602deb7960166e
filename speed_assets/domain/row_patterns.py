"""What the rules look for in one text: patterns for many texts at once, and tests that only few texts need.

Patterns are read by Polars (Rust: no look-around) or by Python as their users say. What is caught is what a *writer of rows*
leaves behind, not what people write about: a customer who cannot complete an order refuses nothing.

Belongs here: looking at single texts. Not here: which fields of which rows are asked (`rules.py`), noise (`noise.py`),
language (`language.py`).
"""

from __future__ import annotations

import re
from functools import lru_cache

from speed_assets.domain.parsing import folded

# Refusals: an assistant that does not do the writing it was asked for. What it refuses is named, or the request itself.

_NOT = r"(?:can[\u2019']?t|cannot|can not|am unable to|[\u2019']m unable to|am not able to|[\u2019']m not able to|won[\u2019']t(?: be able to)?|will not(?: be able to)?|could not|couldn[\u2019']t|must decline to|do not feel comfortable|don[\u2019']t feel comfortable)"
_SORRY = r"(?:(?:i[\u2019']m |i am |we are )?(?:very |so |truly |really )?sorry|(?:i |my )?apolog(?:i[sz]e|ies)|unfortunately|regrettably|as an ai(?: \w+){0,3}|as a language model|i understand[^.]{0,40}|thank you[^.]{0,40}|no)"
_WRITTEN = r"(?:examples?|texts?|documents?|contents?|requests?|tasks?|story|stories|quer(?:y|ies)|essays?|articles?|passages?|responses?|answers?|prompts?|instructions?|json|records?|sentences?|paragraphs?|materials?|conversations?|topics?|outputs?|descriptions?|reviews?|translations?|summar(?:y|ies)|information|advice|assistance|details|opinions?|discussions?|data)"
_OF_THAT = r"(?:an?|any|the|that|this|these|those|such|your|specific|further|more|accurate|personal|real)"
_WRITES = r"(?:provide|providing|generat(?:e|ing)|creat(?:e|ing)|writ(?:e|ing)|produc(?:e|ing)|compos(?:e|ing)|complet(?:e|ing)|continu(?:e|ing)|fulfil(?:l|ling)?|compl(?:y|ying) with|engag(?:e|ing) (?:in|with)|discuss(?:ing)?|answer(?:ing)?|translat(?:e|ing)|summari[sz](?:e|ing)|offer(?:ing)?|giv(?:e|ing)(?: you)?|do(?:ing)?|respond(?:ing)? to|process(?:ing)?|accept(?:ing)?|execut(?:e|ing))"
REFUSAL = (
    rf"(?i)^\W{{0,5}}(?:{_SORRY}\W{{1,3}}(?:but |however,? )?)?(?:i )?{_NOT} (?:to )?(?:"
    rf"(?:help|assist)(?:ing)?(?: you)?(?: with| in)? (?:that|this|these|your|the|such|an?|any|writing|creating|generating|producing|providing|requests?)\b"
    rf"|(?:help|assist)(?: you)?(?: with (?:that|this|it))?\W*$"
    rf"|{_WRITES}(?: you)?(?: with)? (?:{_OF_THAT} )?(?:[\w-]+ ){{0,3}}?{_WRITTEN}\b"
    rf"|answer(?:ing)? (?:that|this|your|the|such) questions?\b"
    rf"|{_WRITES} (?:that|this|so|it|such a thing)(?:[.,!]|\W*$)"
    r")"
    r"|^\W{0,5}(?:i[\u2019']m |i am )?(?:sorry|afraid)\W{1,3}(?:but )?(?:i (?:do not|don[\u2019']t) (?:have (?:enough|access|the ability|any)|understand (?:the|your|this) (?:task|request|question|prompt))|(?:this|that|your) (?:request|prompt|topic|task) )"
    r"|^\W{0,5}(?:i must (?:respectfully )?decline|i (?:respectfully )?decline to (?:write|answer|produce|provide)|(?:this|your) (?:request|prompt) (?:goes against|violates|is not something i|cannot be fulfilled))"
    r"|^\W{0,5}(?:no|there (?:is|was) no|you (?:have not|haven[\u2019']t|did not|didn[\u2019']t) (?:given|give|provided?)(?: me)? (?:an?|any|the)) (?:task|topic|text|prompt|input)\b.{0,20}(?:provided|given|to work with|so i)"
    r"|^\W{0,5}(?:please|could you(?: please)?) (?:provide|give|share|specify)(?: me)?(?: with)? (?:the|a|more|your|further) (?:task|topic|text|prompt|details|context|information)\b"
)

_SENTENCE = r"(?:^\W{0,3}|[.!?]\s+|\n\s*)"
AS_AN_AI = (
    rf"(?i){_SENTENCE}(?:sorry,? (?:but )?)?as an? (?:ai|artificial intelligence|large language|language)(?: language)?(?: (?:model|assistant|chatbot))?(?: (?:developed|trained|created|made) by [\w ]{{1,20}})?,? (?:i|my)\b"
    rf"|{_SENTENCE}(?:i[\u2019']m|i am)(?: just| only| merely)? an? (?:ai|large|artificial intelligence)\b ?(?:language model|assistant|model|chatbot)?(?:[,.]| (?:and|so|trained|developed|created|that))"
)

AS_AN_AI_SUSPECT = r"(?i)an? (?:ai|artificial|large|language)"
"""Stands in every text that `AS_AN_AI` finds, and is cheap to look for."""

_KEYS = "user_query|positive_document|hard_negative_document|input_text|misleading_label"
_SLOTS = "task|topic|query|document|query_type|query_length|document_length|text_length|clarity|difficulty|unit|attributes|guidelines"
TEMPLATE = (
    rf"(?-u:\b)(?:{_KEYS})(?-u:\b)[\u201d\"'`*]{{0,3}} ?[:=]|^\W{{0,3}}(?:{_KEYS})(?-u:\b)"
    rf"|\{{\{{? ?(?:{_SLOTS}) ?\}}?\}}"
    r"|[<\[](?:Your|Insert|YOUR|INSERT|insert|Company|Name|Date) ?[A-Za-z /'-]{0,40}[>\]]"
    r"|^\W{0,3}[Ll]orem ipsum dolor"
)

MARKUP = (
    r"```|^\W{0,2}(?:json|markdown)\s*[{\[]|^\s*[{\[]\s*[\"'][\w ]{1,40}[\"']\s*:|[\"'](?:S1|S2|S3|input|label|text|query|output|answer|reason|revision|[a-z]+_[a-z_]+)[\"']\s*:\s*[\"'{\[]"
    r"|</?(?:p|br|div|span|b|i|u|strong|em|ul|ol|li|h[1-6]|html|body|head|table|tr|td|th|section|article|document|query|text|task|think|answer|output)(?: [^<>]{0,80})?/?>"
    r"|<a href|<img |&(?:amp|lt|gt|quot|nbsp|#\d{2,4});"
    r"|<\|[a-z_]{2,20}\|>|\[/?INST\]|</?s>|^#{2,6} ?(?:Instruction|Response|Input|Output|Question|Answer)"
    r"|[.!?,:;]\\n|\\n\\n|\\u[0-9a-f]{4}|\"\s*[}\]]\s*$"
)
"""Fences, keys, tags, tokens of chat templates and escapes that an answer left in a text."""
MARKUP_IS_SUBJECT = (
    r"(?i)\b(?:html|xml|json|markdown|markup|css|javascript|java|python|sql|php|code|coding|program|programs|programming|programmer"
    r"|software|developer|developers|web ?pages?|web ?sites?|api|script|scripts|tags?|templates?|log|logs|config\w*|latex)\b"
)

_TALKED_OF = r"(?:document|passage|text|excerpt|snippet|(?:hard[ -])?negative(?: document)?|positive(?: document)?)"
_TELLS = r"(?:discuss|describ|provid|explain|explor|outlin|focus|address|present|highlight|contain|mention|cover|talk|answer|detail|delv|offer|give|deal|seem|appear|would be|(?:also )?(?:does|do) not|doesn[\u2019']t|is (?:about|relevant|not|an? (?:example|hard|relevant|document|detailed|comprehensive)|related|likely|meant|intended|useful|suitable|similar))"
ABOUT = (
    rf"(?i)^\W{{0,3}}(?:this|the|the (?:above|following|given|first|second|provided)|here is an?) (?:\w+ )?{_TALKED_OF}\b,? (?:\w+ly |then |also |might |may |could |would |will )?{_TELLS}"
    rf"|(?-u:\b)(?:this|the) (?:\w+ )?{_TALKED_OF}\b[^.!?]{{0,80}}(?-u:\b)(?:the|a|user[\u2019']s|your|this) (?:user[\u2019']s )?(?:query|search query|search terms?)(?-u:\b)"
    rf"|(?-u:\b)(?:relevant|irrelevant|unrelated|related) to the (?:user[\u2019']s )?(?:query|search query|task)(?-u:\b)"
    rf"|(?-u:\b)(?:does not|doesn[\u2019']t|fails to|not)(?: directly| fully| actually)? (?:answer|answering|address|addressing) the (?:user[\u2019']s )?(?:query|user)(?-u:\b)"
    r"|(?-u:\b)hard[ -]negative(?: document)?(?-u:\b)|(?-u:\b)positive document(?-u:\b)"
)
"""A writer's talk about the text instead of the text."""
ABOUT_SUSPECT = r"(?i)document|passage|text|excerpt|snippet|negative|positive|query|task|user"
"""A word of it stands in every text that `ABOUT` finds."""

# A label given away

_KIND = r"labels?|class|category|classification|intents?|sentiment|topic|genre|type|tag|emotion|subject|verdict|stance|polarity|answer"
_SORT_OF_TEXT = (
    r"text|message|review|query|question|request|complaint|e-?mail|post|article|document|passage|sentence|statement|comment"
    r"|example|note|letter|excerpt|story|tweet|headline|snippet|paragraph|description|input"
)
_TELLS_CLASS = (
    r"(?:is|are|was|be|belongs? to|falls? (?:under|into)|concerns?|expresses|expressing|shows|describes|indicates|relates? to|refers? to|counts as"
    r"|deals with|has|represents|contains|covers|discusses|should be|can be|would be)"
)
_BETWEEN = (
    r"(?:\W+(?:clearly|definitely|an?|the|about|of|on|as|in|under|to|best|classified|labell?ed|categori[sz]ed|tagged|described|considered|example|case"
    r"|instance|complaint|question|request|category|class|kind|type|sense|piece|very|typical|label)\b){0,6}"
)
_LABEL_WORDS_TELLING = 5


def given_away(label: str, text: str) -> bool:
    """Whether a text tells its own label, beyond having the label's words in it as texts of a class will.

    Telling are: the text is the label; the label as an annotation (`Label: X`, a hashtag, in quotes or brackets, before a colon
    at the start, by itself at the end); a sentence about the text that names it (`this review is positive`); a label of five
    words and more.

    >>> given_away("shopping list", "what is on my shopping list"), given_away("refund", "I want my money. Category: refund")
    (False, True)
    """
    words = folded(label).split()
    if not words:
        return False
    said = folded(text)
    if said == " ".join(words):
        return True
    if f" {' '.join(words)} " not in f" {said} ":
        # A pattern for each label costs more than a look; run together it can only be a hashtag.
        return f"#{''.join(words)}" in text.lower()
    if len(words) >= _LABEL_WORDS_TELLING:
        return True
    return _MAY_TELL.search(text) is not None and _telling_label(tuple(words)).search(text) is not None


@lru_cache(maxsize=1024)
def _telling_label(words: tuple[str, ...]) -> re.Pattern[str]:
    named = r"[\W_]+".join(map(re.escape, words))
    tagged = rf"#{r'[ _-]?'.join(map(re.escape, words))}\b"
    return re.compile(f"{_telling(named)}|{tagged}", re.IGNORECASE)


def _telling(named: str) -> str:
    return (
        rf"\b(?:{_KIND})\b(?: of (?:this|the) (?:{_SORT_OF_TEXT}))?\s*(?:is\b|are\b|:|=|-|\u2013|\u2014|would be\b|should be\b)\W*(?:the |an? )?(?:{named})\b"
        rf"|\b(?:this|the (?:above|following|given)) (?:\w+ )?(?:{_SORT_OF_TEXT})\b(?:\W+\w+){{0,3}}?\W+{_TELLS_CLASS}{_BETWEEN}\W+(?:{named})\b"
        rf"|\bthis is an? (?:\w+ )?(?:{_SORT_OF_TEXT}|case|instance|matter)(?: (?:about|of|on|for|regarding|concerning|from|in|that is)){_BETWEEN}\W+(?:{named})\b"
        rf"|\b(?:classified|labell?ed|categori[sz]ed|tagged|filed) (?:as|under)\W+(?:an? |the )?(?:{named})\b"
        rf"|[\"\u201c\[(*]{{1,2}}(?:{named})[\"\u201d\])*]{{1,2}}"
        rf"|^\W*(?:{named})\s*(?::|\u2013|\u2014| - |\n)"
        rf"|(?:[.!?;:\u2013\u2014]| -|\n)\s*(?:{named})\W*$"
    )


_MAY_TELL = re.compile(
    rf"\b(?:{_KIND})\b|\bth(?:is|e (?:above|following|given))\b|\b(?:classified|labell?ed|categori[sz]ed|tagged|filed) (?:as|under)\b"
    r"|[\"\u201c\[(*#:\u2013\u2014\n]| -|[.!?;]\s*\S",
    re.IGNORECASE,
)
"""What every text that tells any label has. A pattern for each label takes milliseconds to make, and most texts need none."""

# Texts that stop in mid-sentence

UNFINISHED_END = (
    r"(?i)(?:[,;({\[\u2013\u2014\u201c/&]|\s-|(?-u:\b)(?:the|a|an|of|and|or|their|his|its|our|your|my|every|each|than|but|because|although"
    r"|whereas|into|between|among|via|per|if|whose|to the|such as|as well as|which is|that is|that are|who is))\s*$"
)
"""How no finished sentence ends, in whatever style."""
OPEN_END = r"\s\p{Ll}[\p{Ll}\u2019'-]*\s*$|[a-z)][.!?]\s+\p{Lu}\p{Ll}*\s*$"
"""No mark after the last word: of a text whose other sentences have theirs, unfinished. Names, figures and references at the
end of an encyclopedia's paragraph often lack one; one word alone after the last mark is a sentence that was begun."""
SENTENCES = r"\p{Ll}{2}[.!?][\u201d\"')\]]*\s+\p{Lu}"
"""A sentence that ends in a mark and is followed by another one."""
LAST_LINE_IS_NONE = r"\n\s*(?:[-*\u2022\u2013>]|\d+[.)]|[^\n]{0,40}$)[^\n]*$"
"""The last line is an entry of a list or a signature, which ends without a mark."""

# Personal data

PERSONAL_SUSPECT = r"[\w.]@[\w-]+\.\w|\+?\(?\d[\d .()/-]{8,}\d|(?-u:\b)[A-Z]{2}\d{2} ?[A-Z0-9]{4}"
_EMAIL = re.compile(r"[\w.+-]+@((?:[\w-]+\.)+[a-zA-Z]{2,})\b")
_INVENTED_DOMAIN = re.compile(r"(?i)(?:^|\.)(?:example\.(?:com|org|net|edu)|example|test|invalid|localhost)$")
_PHONE = re.compile(
    r"(?<![\w.-])(?:\+\d{1,3}[ .-]?(?:\(?\d{1,4}\)?[ .-]?){2,5}\d{2,4}|(?:1[ .-])?\(\d{3}\) ?\d{3}[ .-]\d{4}|(?:1[ .-])?\d{3}[.-]\d{3}[.-]\d{4}"
    r"|(?:1 )?\d{3} \d{3} \d{4}|0\d{2,4}[ /-]\d{3,4}[ -]?\d{3,5})(?![\w-]|\.\d)"
)
_INVENTED_PHONE = re.compile(r"555[ .-]?(?:01\d\d|\d{4})")
_CARD = re.compile(r"(?<![\w.-])[3-6]\d{3}(?:[ -]?\d{4}){2}[ -]?\d{1,7}(?![\w.-]*\d)")
_IBAN = re.compile(r"\b([A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?)\b")


def has_personal_data(text: str) -> bool:
    """Whether a text holds an e-mail address, a phone number, the number of a payment card (by its check digit), or an IBAN.

    Addresses and numbers that are kept free for examples (`example.com`, 555-0123) are nobody's.
    """
    if any(not _INVENTED_DOMAIN.search(domain) for domain in _EMAIL.findall(text)):
        return True
    if any(
        not _INVENTED_PHONE.search(number) and sum(map(str.isdigit, number)) >= 9 for number in _PHONE.findall(text)
    ):
        return True
    return any(map(_is_card, _CARD.findall(text))) or any(map(_is_iban, _IBAN.findall(text)))


def _is_card(number: str) -> bool:
    digits = [int(digit) for digit in number if digit.isdigit()]
    doubled = [digit if at % 2 == 0 else digit * 2 - 9 * (digit > 4) for at, digit in enumerate(reversed(digits))]
    return 13 <= len(digits) <= 19 and sum(doubled) % 10 == 0


def _is_iban(number: str) -> bool:
    plain = number.replace(" ", "")
    turned = "".join(str(int(letter, 36)) for letter in plain[4:] + plain[:4])
    return 15 <= len(plain) <= 34 and int(turned) % 97 == 1
