"""Regular expressions of the rules for many texts at once, and tests that only few texts need.

Patterns are read by Polars (Rust: no look-around) or by Python as their users say. What is caught is what a *writer of rows*
leaves behind, not what people write about: a customer who cannot complete an order refuses nothing.

Belongs here: looking at single texts. Not here: which fields of which rows are asked (`rules`), noise (`noise.py`),
language (`language.py`).
"""

from __future__ import annotations

import re
from collections import Counter
from functools import lru_cache

from speed_assets.domain.parsing import words_only

# Refusals: an assistant that does not do the writing it was asked for. What it refuses is named, or the request itself.

_NOT = r"(?:can[\u2019']?t|cannot|can not|am unable to|[\u2019']m unable to|am not able to|[\u2019']m not able to|won[\u2019']t(?: be able to)?|will not(?: be able to)?|could not|couldn[\u2019']t|must decline to|do not feel comfortable|don[\u2019']t feel comfortable)"
_SORRY = r"(?:(?:i[\u2019']m |i am |we are )?(?:very |so |truly |really )?(?:sorry|afraid)|(?:i |my )?apolog(?:i[sz]e|ies)|unfortunately|regrettably|as an ai(?: \w+){0,3}|as a language model|i understand[^.]{0,40}|thank you[^.]{0,40}|no)"
_WRITTEN = r"(?:examples?|texts?|documents?|contents?|requests?|tasks?|story|stories|quer(?:y|ies)|essays?|articles?|passages?|responses?|answers?|prompts?|instructions?|json|records?|sentences?|paragraphs?|materials?|conversations?|topics?|outputs?|descriptions?|reviews?|translations?|summar(?:y|ies)|information|advice|assistance|details|opinions?|discussions?|data)"
_OF_THAT = r"(?:an?|any|the|that|this|these|those|such|your|specific|further|more|accurate|personal|real)"
_WRITES = r"(?:provide|providing|generat(?:e|ing)|creat(?:e|ing)|writ(?:e|ing)|produc(?:e|ing)|compos(?:e|ing)|complet(?:e|ing)|continu(?:e|ing)|fulfil(?:l|ling)?|compl(?:y|ying) with|engag(?:e|ing) (?:in|with)|discuss(?:ing)?|answer(?:ing)?|translat(?:e|ing)|summari[sz](?:e|ing)|offer(?:ing)?|giv(?:e|ing)(?: you)?|do(?:ing)?|respond(?:ing)? to|process(?:ing)?|accept(?:ing)?|execut(?:e|ing))"
REFUSAL = (
    rf"(?i)^\W{{0,5}}(?:{_SORRY}\W{{1,3}}(?:but |however,? )?)?(?:i ?)?{_NOT} (?:to )?(?:"
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
    rf"|{_SENTENCE}(?:i[\u2019']m|i am)(?: just| only| merely)? an? (?:helpful |friendly |virtual )?(?:ai|large|artificial intelligence)\b ?(?:language model|assistant|model|chatbot)?(?:[,.]| (?:and|so|trained|developed|created|that))"
)

AS_AN_AI_SUSPECT = r"(?i)an? (?:(?:helpful|friendly|virtual) )?(?:ai|artificial|large|language)"
"""Stands in every text that `AS_AN_AI` finds, and is cheap to look for."""

_KEYS = "user_query|positive_document|hard_negative_document|input_text|misleading_label"
_SLOTS = "task|topic|query|document|query_type|query_length|document_length|text_length|clarity|difficulty|unit|attributes|guidelines"
TEMPLATE = (
    rf"(?-u:\b)(?:{_KEYS})(?-u:\b)[\u201d\"'`*]{{0,3}} ?[:=]|^\W{{0,3}}(?:{_KEYS})(?-u:\b)"
    rf"|\{{\{{? ?(?:{_SLOTS}) ?\}}?\}}"
    r"|[<\[](?:Your|Insert|YOUR|INSERT|insert|Company|Name|Date) ?[A-Za-z /'-]{0,40}[>\]]"
    r"|\[(?:[A-Z]+(?:_[A-Z]+)+|(?i:task|topic|text|name|item|example)s?\d|TASK|TOPIC|ACTION|NAME|DATE|TEXT|QUERY|DOCUMENT|LABEL)\]"
    r"|^\W{0,3}[Ll]orem ipsum dolor"
    # The name of a field before its text, and the field's description in its place.
    r"|^\W{0,3}(?:\d\W{1,3})?S[123]\W{1,3}(?:is|was|are|were|has|had|can|does|do)\b"
    r"|^\W{0,3}(?:S[123]|(?i:(?:user(?:'s)?|search) query|query|document|passage|(?:input|user) text|text|sentence [12ab]"
    r"|(?:(?:hard|relevant|irrelevant)[ -])?(?:negative|positive)(?:[ -](?:document|passage|text|example))?|misleading label))\W{0,3}[:=]"
    r"|(?i)^\W{0,3}(?:(?:an?|the|your|some|any|this|insert|enter|write|put|add|place)\W{1,2}){0,3}(?:(?:actual|real|short|long|relevant|hard|user|search|input|negative"
    r"|positive|irrelevant|example)\W){0,2}(?:text|document|passage|query|input|sentence|label|example|content|answer)s?"
    r" (?:(?:that|which) )?(?:(?:is|are|has|will|should|would|can|needs?|must) )?(?:(?:to )?be )?(?:here|below|above|goes here|to (?:classify|label|match|retrieve)"
    r"|(?:classified|labell?ed|categori[sz]ed|matched|retrieved|written|inserted|generated|filled in|provided|searched)(?: (?:here|by (?:the|an?) \w+))?"
    r"|(?:that |which )?(?:answers?|matches|(?:does|do) not (?:answer|match)) (?:the|a) (?:(?:user|search) )?(?:query|question))\W*$"
    r"|^[^\w]*(?:\.{3}|\u2026)[^\w]*$"
)
PLACEHOLDER = (
    r"(?i)^\W*(?:string|text|document|placeholder|tbd|todo|n/a|none|null|undefined|s[123]|(?:https?://|www\.)\S+"
    r"|[a-z0-9]+(?:_[a-z0-9]+){4,}|(?:an? )?(?:short|long|similar) (?:sentence|text|document|passage))\W*$"
)
"""A placeholder for a text, an address or a name of five words with underscores alone, or the key of a similar sentence in its
own place. As a label it may be meant."""
LABEL_TEMPLATE = (
    r"(?i)^\W{0,3}(?:label|class|category|correct label|misleading label|intent|answer|output)\W{0,2}[:=]"
    r"|^\W{0,3}(?:the |an? )?(?:right|wrong|correct|another|misleading) (?:class|label|category)(?-u:\b)"
)
"""The name of the field before a label, or its description in its place. In other texts these words open entries of a catalogue."""

MARKUP = (
    r"```|^\W{0,2}(?:json|markdown)\s*[{\[]|^\s*[{\[]\s*[\"'][\w ]{1,40}[\"']\s*:|[\"'](?:S1|S2|S3|input|label|text|query|output|answer|reason|revision|[a-z]+_[a-z_]+)[\"']\s*:\s*[\"'{\[]"
    r"|</?(?:p|br|div|span|b|i|u|strong|em|ul|ol|li|h[1-6]|html|body|head|table|tr|td|th|section|article|document|query|text|task|think|answer|output)(?: [^<>]{0,80})?/?>"
    r"|<a href|<img |&(?:amp|lt|gt|quot|nbsp|#\d{2,4});"
    r"|<\|[a-z_]{2,20}\|>|\[/?INST\]|</?s>|^#{2,6} ?(?:Instruction|Response|Input|Output|Question|Answer)"
    r"|(?m:^#{2,6} \S)|\[[^\[\]\n]{1,80}\]\((?:https?:|/|#|\.)[^\s()]{0,200}\)|(?m:^\|(?:[^|\n]*\|){2,}\s*$)|(?:^|\s)\*\*[^*\s][^*\n]{0,80}\*\*|\\text(?:bf|it|tt)\{"
    r"|[.!?,:;]\\n|\\n\\n|\\u[0-9a-f]{4}|\"\s*[}\]]\s*$"
)
"""Fences, keys, tags, tokens of chat templates and escapes that an answer left in a text."""
MARKUP_IS_SUBJECT = (
    r"(?i)\b(?:html|xml|json|markdown|markup|css|javascript|java|python|sql|php|code|coding|program|programs|programming|programmer"
    r"|software|developer|developers|web ?pages?|web ?sites?|api|script|scripts|tags?|templates?|log|logs|config\w*|latex)\b"
)

_OPENED = r"(?:sure(?: thing)?|certainly|of course|absolutely|definitely|gladly|okay|ok|alright|great|got it|no problem|understood|happy to help|with pleasure|yes)"
_HANDED = (
    r"(?:document|passage|text|quer(?:y|ies)|examples?|sentences?|response|answer|article|stor(?:y|ies)|paragraph|message|e-?mail|review|description|version"
    r"|draft|sample|snippet|json|output|record|triplet|label|task|input|request|prompt|instructions?|criteria|requirements?|content|piece)"
)
OPENING = (
    rf"(?i)^\W{{0,3}}{_OPENED}\b[!,.:\s\u2013\u2014-]{{1,4}}(?:i'?d be (?:happy|glad) to|i (?:can|will|would|have|'ll)|i[\u2019']?ll|let me|here(?:[\u2019']s| is| are| you go| we go)|below is|this is|the following)\b"
    rf"[^.!?\n]{{0,80}}(?-u:\b){_HANDED}(?-u:\b)"
    rf"|^\W{{0,3}}(?:here(?:[\u2019']s| is| are)|below (?:is|are)|the following (?:is|are)|i(?:[\u2019']ve| have)(?: now)? (?:written|created|generated|prepared|made)) (?:an?|the|your|some|my|one|two|three|\d)? ?(?:[\w-]+ ){{0,4}}?{_HANDED}(?-u:\b)[^.!?\n]{{0,100}}(?::\s|\n)"
    r"|^\W{0,3}(?:i hope (?:this|that|it) helps|let me know if (?:you|this|that|there)|feel free to (?:ask|let me know))"
    r"|(?:[.!?]|\n)\s*(?:i hope this (?:helps|meets|works|satisfies)\b[^.!?\n]{0,60}|let me know if you (?:need|want|would like|have|[\u2019']d like)\b[^.!?\n]{0,30}(?:changes|adjustments|revisions|modifications|another (?:example|version|one)|more examples|further examples|edits)[^.!?\n]{0,30})[.!]?\s*$"
)
"""An assistant's opening or close around the text that it was asked for."""
OPENING_HEAD, OPENING_TAIL = 24, 160
"""Characters at the beginning and at the end of a text in which a suspect pattern is looked for."""
OPENING_SUSPECT = r"(?i)^\W{0,3}(?:sure|certain|of course|absolut|definite|glad|ok|alright|great|got it|no prob|underst|happy to|with pl|yes|here|below|the foll|i |i[\u2019']|let me|feel free)"
CLOSE_SUSPECT = r"(?i-u:hope this|let me know)"
"""One of the two occurs in every text that `OPENING` finds."""

_TALKED_OF = r"(?:document|passage|text|excerpt|snippet|(?:hard[ -])?negative(?: document)?|positive(?: document)?)"
_TELLS = r"(?:discuss|describ|provid|explain|explor|outlin|focus|address|present|highlight|contain|mention|cover|talk|answer|detail|delv|offer|give|deal|seem|appear|would be|(?:also )?(?:does|do) not|doesn[\u2019']t|is (?:about|relevant|not|an? (?:example|hard|relevant|document|detailed|comprehensive)|related|likely|meant|intended|useful|suitable|similar))"
_MAY = r"(?:\w+ly |then |also |might |may |could |would |will )?"
ABOUT = (
    rf"(?i)^\W{{0,3}}(?:this|the (?:above|following|given|first|second|provided|hard|positive|negative)|here is an?) (?:\w+ )?{_TALKED_OF}\b,? {_MAY}{_TELLS}"
    rf"|(?-u:\b)(?:this|the) (?:\w+ )?{_TALKED_OF}\b[^.!?]{{0,80}}(?-u:\b)(?:the|a|user[\u2019']s|your|this) (?:user[\u2019']s )?(?:query|search query|search terms?)(?-u:\b)"
    rf"|(?-u:\b)(?:relevant|irrelevant|unrelated|related) to the (?:user[\u2019']s )?(?:query|search query|task)(?-u:\b)"
    rf"|(?-u:\b)(?:does not|doesn[\u2019']t|fails to|not)(?: directly| fully| actually)? (?:answer|answering|address|addressing) the (?:user[\u2019']s )?(?:query|user)(?-u:\b)"
    r"|(?-u:\b)hard[ -]negative(?: document)?(?-u:\b)|(?-u:\b)positive document(?-u:\b)"
)
"""A writer's talk about the text instead of the text."""
ABOUT_SUSPECT = r"(?i)document|passage|text|excerpt|snippet|negative|positive|query|task|user"
"""A word of it occurs in every text that `ABOUT` and `ABOUT_THE` find."""
ABOUT_THE = rf"(?i)^\W{{0,3}}the (?:\w+ )?{_TALKED_OF}\b,? {_MAY}{_TELLS}"
"""The same, where the document may be a thing that the text is about."""
OWN_SUBJECT = (
    r"(?i)(?-u:\b)(?:parchment|vellum|papyrus|manuscripts?|codex|scrolls?|clay tablets?|charter|treaty|treaties|decree|edict|deed|testament|constitution|declaration"
    r"|covenant|inscriptions?|signator(?:y|ies)|signatures?|archives?|historians|scholars|scribes?|monks?|clauses?|articles? (?:\d+|[ivx]+)|preamble|ratif\w+|verses?|stanzas?|narrator"
    r"|dates? (?:from|back|to)|dated (?:to|from|\d)|(?:is|was|were|been|being) (?:\w+ly |first |later |finally )?(?:signed|sealed|drafted|drawn up|copied|issued|adopted|ratified|proclaimed"
    r"|unearthed|rediscovered|translated into|attributed to|housed|kept in|preserved|carved|engraved|inscribed|penned|promulgated))(?-u:\b)"
)
"""Of a text that begins with "The document": it tells who made or keeps the document, or what it is written on."""

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
_NOTE_WORDS = 5
"""Words of a note ("Battery: swollen"): the words before and after its mark are all that it says. Ours."""
_ENTRY = re.compile(
    rf"(?:^|[\n;,|]|[.] )\s*(?!(?:{_KIND})\b)[A-Z][\w /-]{{1,30}}(?::| =| -| \u2013)\s", re.MULTILINE | re.IGNORECASE
)
_FORM_MARKS = re.compile(r"\s*(?::| - | \u2013 | \u2014 |\n)\s*")


def _is_form(text: str) -> bool:
    """Whether marks part the entries of a form or a note, and put no label next to a text."""
    if re.search(rf"(?i)\b(?:{_KIND})\b", text):
        return False
    entries = len(_ENTRY.findall(text))
    return entries >= 2 or (entries == 1 and len(text.split()) <= _NOTE_WORDS)


def gives_label_away(label: str, text: str) -> bool:
    """Whether a text gives its label away, more than texts of a class that contain the label's words.

    Telling are: the text is the label; the label as an annotation (`Label: X`, a hashtag, in quotes or brackets, before a colon
    at the start, by itself at the end); a sentence about the text that names it (`this review is positive`); a label of five
    words and more.

    >>> gives_label_away("shopping list", "what is on my shopping list"), gives_label_away("refund", "I want my money. Category: refund")
    (False, True)
    """
    words = words_only(label).split()
    if not words:
        return False
    text_words = words_only(text)
    if text_words == " ".join(words):
        return True
    if f" {' '.join(words)} " not in f" {text_words} ":
        # A pattern for each label costs more than a look; run together it can only be a hashtag.
        return f"#{''.join(words)}" in text.lower()
    if len(words) >= _LABEL_WORDS_TELLING:
        return True
    telling = _telling_label(tuple(words)) if _MAY_TELL.search(text) else None
    if telling is None or not telling.search(text):
        return False
    # Marks in a form or a note put no label next to a text.
    return not _is_form(text) or telling.search(_FORM_MARKS.sub(" ", text)) is not None


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

UNFINISHED_MARK = r"(?:[,;({\[\u2013\u2014\u201c/&]|\s-)\s*$"
"""How no finished sentence ends, in whatever style and language."""
UNFINISHED_WORD = (
    r"(?i)(?-u:\b)(?:the|a|an|of|and|or|their|his|its|our|your|my|every|each|than|but|because|although"
    r"|whereas|into|between|among|via|per|if|whose|to the|such as|as well as|which is|that is|that are|who is)\s*$"
)
"""How no finished English sentence ends. In other languages some are other words: German sentences end in "an"."""
OPEN_END = r"\s\p{Ll}[\p{Ll}\u2019'-]*\s*$|[a-z)][.!?]\s+\p{Lu}\p{Ll}*\s*$"
"""No mark after the last word: of a text whose other sentences have theirs, unfinished. Names, figures and references at the
end of an encyclopedia's paragraph often lack one; one word alone after the last mark is a sentence that was begun."""
OPEN_PREPOSITION = r"(?i)(?-u:\b)(?:for|with|from|in|at|by|on|to|about|through|during|under|over|after|before|is|are|was|were|be|can|will|should|must|not|very|more|most|when|where|while|which|that|who|this|these|so|as|has|have|had)\s*$"
"""How a last sentence without its mark shows that it continues."""
STEP = (
    r"(?:[.!?:]\s+|\n\s*)(?:(?:Then|Now|Next|Finally|Please|Always|Never|Do not|Don[\u2019']t|Just|Simply|Also) )?(?i:bake|boil|fry|roast|grill|simmer|serve|store|mix|stir|whisk|fold in|add"
    r"|cook|enjoy|repeat|drain|garnish|preheat|place|remove|click|press|select|tap|restart|reboot|contact|call|visit|see|apply|rinse|wash|let|allow|leave|cover|turn|keep|use|check|set"
    r"|put|take|bring|season|chill|cool|freeze|heat|pour|spread|sprinkle|cut|chop|slice|wait|try|install|open|close|save|send|write|read|book|order|ask|join|sign|meet|follow|avoid|clean"
    r"|dry|water|plant|prune|replace|tighten|connect|charge|submit|return|refer|note|ensure|make sure|come|get|go|buy|shop|download|subscribe|register|learn|thanks|thank you|best|regards"
    r"|cheers|kind regards|sincerely|love|yours)\b[^.!?\n]{0,32}$"
)
"""A last sentence that is a step or a request, as they are noted without a mark, or a greeting."""
AMOUNT_END = r"\d[\d.,/-]*(?: ?(?:\u00b0 ?[CF]|%|\p{L}+))?\s*$"
"""A number and what it counts ("for 40 minutes"): whole as a phrase, and often without a mark."""
SENTENCES = r"\p{Ll}{2}[.!?][\u201d\"')\]]*\s+\p{Lu}"
"""A sentence that ends in a mark and is followed by another one."""
LAST_LINE_IS_NONE = r"\n\s*(?:[-*\u2022\u2013>]|\d+[.)]|[^\n]{0,40}$)[^\n]*$"
"""The last line is an entry of a list or a signature, which ends without a mark."""

# One sentence again and again

REPETITION_LEAST = 40
"""Bytes of the shortest text of which more than one word can be called a repetition. Ours, as are the numbers below."""
WORD_TIMES = 5
"""Times that one word in succession is a repetition in a text of any length."""
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")
_TIMES, _SENTENCE_WORDS = 3, 3
_LOOP_TIMES, _LOOP_WORDS, _LOOP_LONGEST = 4, 12, 12


def repeats_itself(text: str) -> bool:
    """Whether at least half of a text are sentences of three words or more, each three times, its end a loop of few words, or all of it marks.

    A text shorter than `REPETITION_LEAST` bytes repeats itself only where one word is at least half of it, in succession.

    >>> repeats_itself("how how how how how"), repeats_itself("It is very, very, very late.")
    (True, False)
    >>> repeats_itself("I like it a lot. I like it a lot. I like it a lot."), repeats_itself("Row, row, row your boat.")
    (True, False)
    >>> repeats_itself("." * 40)
    True
    """
    if len(text.encode("utf-8", "replace")) < REPETITION_LEAST:
        return _is_one_word(text.casefold())
    text = text.casefold().strip().rstrip(" .!?\"'")
    sentences = Counter(sentence.strip(" .!?\"'") for sentence in _SENTENCE_END.split(text))
    whole = sum(len(sentence) * times for sentence, times in sentences.items())
    repeated = sum(
        len(sentence) * times
        for sentence, times in sentences.items()
        if times >= _TIMES and sentence.count(" ") + 1 >= _SENTENCE_WORDS
    )
    if repeated and 2 * repeated >= whole:
        return True
    words = text.split()
    if not words:
        return True
    for size in range(1, min(_LOOP_LONGEST, len(words)) + 1):
        loop, times = words[-size:], 1
        while words[-(times + 1) * size : -times * size] == loop:
            times += 1
        if times >= _LOOP_TIMES and times * size >= _LOOP_WORDS:
            return True
    return False


def _is_one_word(text: str) -> bool:
    words = re.findall(r"\w+", text)
    last = next((times for times, word in enumerate(reversed(words)) if word != words[-1]), len(words))
    return last >= WORD_TIMES and 2 * last >= len(words)


# Personal data

PERSONAL_SUSPECT = r"[\w.]@[\w-]+\.\w|\+?\(?\d[\d .()/-]{8,}\d|(?-u:\b)[A-Z]{2}\d{2} ?[A-Z0-9]{4}"
_EMAIL = re.compile(r"[\w.+-]+@((?:[\w-]+\.)+[a-zA-Z]{2,})\b")
_INVENTED_DOMAIN = re.compile(r"(?i)(?:^|\.)(?:example\.(?:com|org|net|edu)|example|test|invalid|localhost)$")
_PHONE = re.compile(
    r"(?<![\w.-])(?:\+\d{1,3}[ .-]?(?:\(?\d{1,4}\)?[ .-]?){2,5}\d{2,4}|(?:1[ .-])?\(\d{3}\) ?\d{3}[ .-]\d{4}|(?:1[ .-])?\d{3}[.-]\d{3}[.-]\d{4}"
    r"|(?:1 )?\d{3} \d{3} \d{4}|0\d{2,4}[ /-]\d{3,4}[ -]?\d{3,5})(?![\w-]|\.\d)"
)
_INVENTED_PHONE = re.compile(r"555[ .-]?(?:01\d\d|\d{4})")
_COUNTRY = r"(?:[17]|2[07]|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58]|(?:2[1-689]|3[578]|42|5[09]|6[7-9]|8[0578]|9[679])\d)"
_SERVICE = re.compile(
    r"(?:\+?1)?8(?:00|22|33|44|55|66|77|88)\d{7}|\+800\d{8}"
    rf"|(?:0|\+{_COUNTRY}0?)800\d{{4,8}}|(?:0|\+44)808\d{{5,7}}|(?:0|\+49)(?:180|900)\d{{5,9}}"
)
"""Numbers at the callee's or a raised cost, which belong to firms: of North America, of the world, 0800 and the like."""
_CARD = re.compile(r"(?<![\w.-])[3-6]\d{3}(?:[ -]?\d{4}){2}[ -]?\d{1,7}(?![\w.-]*\d)")
_IBAN = re.compile(r"\b([A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?)\b")


def has_personal_data(text: str) -> bool:
    """Whether a text holds an e-mail address, a phone number, the number of a payment card (by its check digit), or an IBAN.

    Addresses and numbers that are kept free for examples (`example.com`, 555-0123) are nobody's, and free numbers (1-800-...)
    no person's.
    """
    if any(not _INVENTED_DOMAIN.search(domain) for domain in _EMAIL.findall(text)):
        return True
    if any(map(_is_of_a_person, _PHONE.findall(text))):
        return True
    return any(map(_is_card, _CARD.findall(text))) or any(map(_is_iban, _IBAN.findall(text)))


def _is_of_a_person(phone: str) -> bool:
    digits = re.sub(r"[^\d+]", "", phone)
    return sum(map(str.isdigit, digits)) >= 9 and not _INVENTED_PHONE.search(phone) and not _SERVICE.fullmatch(digits)


def _is_card(number: str) -> bool:
    digits = [int(digit) for digit in number if digit.isdigit()]
    doubled = [digit if at % 2 == 0 else digit * 2 - 9 * (digit > 4) for at, digit in enumerate(reversed(digits))]
    return 13 <= len(digits) <= 19 and sum(doubled) % 10 == 0


def _is_iban(number: str) -> bool:
    plain = number.replace(" ", "")
    turned = "".join(str(int(letter, 36)) for letter in plain[4:] + plain[:4])
    return 15 <= len(plain) <= 34 and int(turned) % 97 == 1
