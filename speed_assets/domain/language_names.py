"""Languages that rows can be written in: their codes, their English names, their codes in mteb.

All are known to the language identifier, so that rows in them can be judged.

Belongs here: the table. Not here: which one a row is in (`row_languages.py`), detecting one (`language.py`).
"""

from __future__ import annotations

from collections.abc import Iterable

_TABLE = """
af Afrikaans afr-Latn|am Amharic amh-Ethi|an Aragonese arg-Latn|ar Arabic ara-Arab|as Assamese asm-Beng
az Azerbaijani aze-Latn|ba Bashkir bak-Cyrl|be Belarusian bel-Cyrl|bg Bulgarian bul-Cyrl|bn Bengali ben-Beng
br Breton bre-Latn|bs Bosnian bos-Latn|ca Catalan cat-Latn|cs Czech ces-Latn|cy Welsh cym-Latn|da Danish dan-Latn
de German deu-Latn|dz Dzongkha dzo-Tibt|el Greek ell-Grek|en English eng-Latn|eo Esperanto epo-Latn|es Spanish spa-Latn
et Estonian est-Latn|eu Basque eus-Latn|fa Persian fas-Arab|fi Finnish fin-Latn|fo Faroese fao-Latn|fr French fra-Latn
fy Frisian fry-Latn|ga Irish gle-Latn|gd Gaelic gla-Latn|gl Galician glg-Latn|gu Gujarati guj-Gujr|ha Hausa hau-Latn
he Hebrew heb-Hebr|hi Hindi hin-Deva|hr Croatian hrv-Latn|ht Haitian hat-Latn|hu Hungarian hun-Latn|hy Armenian hye-Armn
id Indonesian ind-Latn|ig Igbo ibo-Latn|is Icelandic isl-Latn|it Italian ita-Latn|ja Japanese jpn-Jpan|jv Javanese jav-Latn
ka Georgian kat-Geor|kk Kazakh kaz-Cyrl|km Khmer khm-Khmr|kn Kannada kan-Knda|ko Korean kor-Hang|ku Kurdish kur-Latn
ky Kyrgyz kir-Cyrl|la Latin lat-Latn|lb Luxembourgish ltz-Latn|lg Ganda lug-Latn|ln Lingala lin-Latn|lo Lao lao-Laoo
lt Lithuanian lit-Latn|lv Latvian lav-Latn|mg Malagasy mlg-Latn|mk Macedonian mkd-Cyrl|ml Malayalam mal-Mlym
mn Mongolian mon-Cyrl|mr Marathi mar-Deva|ms Malay msa-Latn|mt Maltese mlt-Latn|my Burmese mya-Mymr|ne Nepali nep-Deva
nl Dutch nld-Latn|nn Nynorsk nno-Latn|no Norwegian nor-Latn|oc Occitan oci-Latn|om Oromo orm-Latn|or Odia ori-Orya
pa Punjabi pan-Guru|pl Polish pol-Latn|ps Pashto pus-Arab|pt Portuguese por-Latn|qu Quechua que-Latn|ro Romanian ron-Latn
ru Russian rus-Cyrl|rw Kinyarwanda kin-Latn|sa Sanskrit san-Deva|se Sami sme-Latn|si Sinhala sin-Sinh|sk Slovak slk-Latn
sl Slovenian slv-Latn|sn Shona sna-Latn|so Somali som-Latn|sq Albanian sqi-Latn|sr Serbian srp-Cyrl|st Sotho sot-Latn
sv Swedish swe-Latn|sw Swahili swa-Latn|ta Tamil tam-Taml|te Telugu tel-Telu|tg Tajik tgk-Cyrl|th Thai tha-Thai
tk Turkmen tuk-Latn|tl Tagalog tgl-Latn|tr Turkish tur-Latn|tt Tatar tat-Cyrl|ug Uyghur uig-Arab|uk Ukrainian ukr-Cyrl
ur Urdu urd-Arab|uz Uzbek uzb-Latn|vi Vietnamese vie-Latn|vo Volapük vol-Latn|wa Walloon wln-Latn|xh Xhosa xho-Latn
yo Yoruba yor-Latn|zh Chinese zho-Hans|zu Zulu zul-Latn
"""
"""ISO 639-1 code, name, and the ISO 639-3 code with the script in which the language is mostly written (ISO 15924)."""
_ROWS = [entry.split(" ") for line in _TABLE.strip().splitlines() for entry in line.split("|")]
LANGUAGE_NAMES: dict[str, str] = {code: name for code, name, _ in _ROWS}
"""English names, as prompts say them, by ISO 639-1 code."""
_MTEB: dict[str, str] = {code: mteb for code, _, mteb in _ROWS}
UNSPACED = frozenset(("dz", "ja", "km", "lo", "my", "th", "zh"))
"""Languages that put no spaces between words: the words of their texts are not counted."""


def mteb_languages(codes: Iterable[str]) -> list[str]:
    """Codes of languages as mteb's metadata have them, in order of name.

    Args:
        codes: ISO 639-1 codes; one may be there several times.

    Raises:
        KeyError: a code is not in the table.

    >>> mteb_languages(["ja", "en", "en"])
    ['eng-Latn', 'jpn-Jpan']
    """
    return sorted({_MTEB[code] for code in codes})
