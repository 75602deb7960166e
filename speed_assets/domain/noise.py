"""Noise: text that no language writes, detected from its words.

A model that is sampled too hot writes words run together (`LIFAddingAscendablassamSearchVBA`), encoded bytes, or letters as
if keys were hit at random. Each shows in a word by its length, its changes of case, its vowels. What a word may be all the
same (addresses, names in code, chemical names, numbers of parts) is allowed for by length. Bytes in hexadecimal and letters that
were decoded as another alphabet's are noise where they make up a good part of a text: one hash, one broken quotation mark is not.
All numbers are ours, chosen on half of the rows that people wrote (docs/filters.md).

Belongs here: whether a text is noise. Not here: which rows are quarantined for it (`rules`).
"""

from __future__ import annotations

import re

_LONGEST_WORD = 36  # letters in lower case: chemical names have up to some thirty
_LONGEST_COMPOUND = 64  # the same in languages that write compounds as one word: German laws have up to some sixty
_RUN_TOGETHER = 24  # letters with changes of case inside: longer names in code consist of shorter words
_LONGEST_PART = 14  # letters between two changes of case in such a word
_MOST_CHANGES = 6  # words run together: no name in code has more
_ENCODED = 20  # characters of letters and digits mixed
_ENCODED_CHANGES = 0.25  # changes between capitals, small letters and digits, per character
_CONSONANTS = 8  # in a row: "Hirschsprung" has seven
_HEX_LEAST = 0.5  # share of the characters in runs of hexadecimal digits
_MISREAD_LEAST = 2  # letters decoded wrongly, and one of so many characters:
_MISREAD_MOST_APART = 60
MASH_LONGEST = 400  # characters: hits of keys are looked for in shorter texts only
_MASH_LEAST = 0.4  # share of the words that no English reader could say

_ODD = (
    r"q[bcdfghjklmnpqrstvwxyz]|j[bcdfghjklmnpqrstvwxyz]|v[bcdfghjklmnpqtwxz]|z[bcdfghjkmnpqrstvwx]|x[zjkgrqd]|w[qxzvj]|k[qxzjv]"
    r"|h[qxzjv]|[bcdfgkpqtvwz]x|f[bcdghjkpqvxz]|lkj|jhg|kjh|sdf|dfg|fgh|ghj|hjk|jkl|qwe|asd"
)
_CONSONANT = "[bcdfghjklmnpqrstvwxz]"

_HEX_BYTES = r"\b(?:0x|\\x)?[0-9a-fA-F]{2}(?:[ :,]{1,2}(?:0x|\\x)?[0-9a-fA-F]{2}\b){7,}"
_HEX_RUN = r"\b(?:0x)?(?:[0-9a-f]{20,}|[0-9A-F]{20,})\b"
_MISREAD = "[\u00c2\u00c3][\u0080-\u00bf]|\u00e2\u20ac[\u0080-\u00bf\u0152-\u0178\u02c6\u02dc\u2013-\u203a\u2122]|\u00ef\u00bf\u00bd|\ufffd"

SUSPECT = (
    rf"[A-Za-z0-9+/=_-]{{{_ENCODED},}}|{_CONSONANT}{{{_CONSONANTS},}}|\d_\d+_\d|{_HEX_BYTES}|{_MISREAD}"
    r"|^[A-Z]?[a-z]+[A-Z]{2,}[a-z]*$"
)
"""What every text with noise has, but for keys hit at random; few others have it."""
_HIT = rf"(?:{_ODD}|\b{_CONSONANT}{{5,}}\b)"
SUSPECT_MASH = rf"(?is)(?-u:{_HIT})[^ ]* .*?(?-u:{_HIT})"
"""The same for keys hit at random, of texts of at most `MASH_LONGEST` characters."""

_HEX = re.compile(rf"{_HEX_BYTES}|{_HEX_RUN}")
_MISREAD_LETTER = re.compile(_MISREAD)
_ADDRESS = re.compile(r"\S*(?:://|www\.|@)\S*|\S*\.(?:com|org|net|gov|edu|html?|php|pdf)\b\S*")
_LONG = re.compile(rf"[A-Za-z0-9+/=_-]{{{_ENCODED},}}")
_PARTS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[A-Z]")
_KINDS = re.compile(r"[A-Z]+|[a-z]+|[0-9]+")
_CONSONANT_RUN = re.compile(rf"(?i){_CONSONANT}{{{_CONSONANTS},}}")
_NUMBERED = re.compile(r"[A-Za-z]\w*?_\d+_\d+_\d+_\d")
_WORD = re.compile(r"[^\W\d_]+")
_UNSAYABLE = re.compile(rf"(?i){_ODD}|^{_CONSONANT}{{5,}}$")
_SHOUTING_END = re.compile(r"^[A-Z]?[a-z]+([A-Z]{3,})[a-z]*$")
_ACRONYMS = frozenset(
    [
        "AIR",
        "API",
        "APP",
        "BERT",
        "CAD",
        "CMS",
        "CRM",
        "CSS",
        "CSV",
        "DNA",
        "DOS",
        "ERP",
        "GIS",
        "GPT",
        "GPU",
        "GUI",
        "HTML",
        "HTTP",
        "IDE",
        "JDBC",
        "JSON",
        "LAN",
        "LLM",
        "MATH",
        "NET",
        "NMR",
        "PCR",
        "PDF",
        "PHP",
        "RAM",
        "RNA",
        "ROM",
        "RPC",
        "SDK",
        "SQL",
        "SSH",
        "SSL",
        "TCP",
        "TDD",
        "TLS",
        "UML",
        "URL",
        "USA",
        "USB",
        "VPN",
        "WAN",
        "XML",
        "XSS",
        "YAML",
    ]
)


def is_noise(text: str, *, english: bool = True) -> bool:
    """Whether a text holds a word that no language writes, or consists of such words.

    Args:
        text: any text.
        english: whether it may be read as English, whose words have few consonants in a row ("Angstschwei\u00df" has eight), few pairs
            such as "zt", and no compounds of forty letters.

    >>> is_noise("LIFAddingAscendablassamSearchVBA finds it"), is_noise("ConcurrentModificationException in a loop")
    (True, False)
    >>> is_noise("48 65 6c 6c 6f 20 77 6f 72 6c 64"), is_noise("The commit 3f786850e387550fdab836ed7e6dc881de23001b broke the build of the parser.")
    (True, False)
    """
    if english and len(text) <= MASH_LONGEST and _mashed(text):
        return True
    if _is_hexadecimal(text) or _is_misread(text):
        return True
    plain = _ADDRESS.sub(" ", text)
    longest = _LONGEST_WORD if english else _LONGEST_COMPOUND
    if english and _CONSONANT_RUN.search(plain):
        return True
    if _NUMBERED.search(plain) or any(_is_garbled(word, longest) for word in _LONG.findall(plain)):
        return True
    ending = _SHOUTING_END.match(plain.strip())
    return ending is not None and ending[1] not in _ACRONYMS


def _is_hexadecimal(text: str) -> bool:
    """Whether half of a text are bytes written as hexadecimal digits, some of them letters and some figures."""
    runs = [
        run for run in _HEX.findall(text) if re.search("[a-fA-F]", run.replace("0x", "")) and re.search("[0-9]", run)
    ]
    return bool(runs) and sum(map(len, runs)) >= _HEX_LEAST * len(text.strip())


def _is_misread(text: str) -> bool:
    """Whether letters of a text were decoded as those of another alphabet, many of them (`caf\u00c3\u00a9`)."""
    found = len(_MISREAD_LETTER.findall(text))
    return found >= _MISREAD_LEAST and found * _MISREAD_MOST_APART >= len(text)


def _is_garbled(word: str, longest: int) -> bool:
    """Whether a long word is run together or encoded; of one without changes of case, whether it has more letters than `longest`."""
    for piece in re.split(r"[-_/=+]+", word):
        letters = re.findall(r"[A-Za-z]+", piece)
        for run in letters:
            parts = _PARTS.findall(run)
            if len(run) > longest and len(parts) == 1:
                return True
            if (
                len(run) >= _RUN_TOGETHER
                and len(parts) > 1
                and (max(map(len, parts)) >= _LONGEST_PART or len(parts) - 1 > _MOST_CHANGES)
            ):
                return True
        kinds = _KINDS.findall(piece)
        if (
            len(piece) >= _ENCODED
            and len(kinds) - 1 >= _ENCODED_CHANGES * len(piece)
            and re.search("[a-z]", piece)
            and re.search("[A-Z]", piece)
        ):
            return True
    return False


def _mashed(text: str) -> bool:
    """Whether so many words of a text cannot be pronounced that keys were hit at random."""
    words = _WORD.findall(text)
    odd = sum(1 for word in words if len(word) >= 4 and not word.isupper() and _UNSAYABLE.search(word))
    return odd >= 2 and odd >= _MASH_LEAST * len(words)
