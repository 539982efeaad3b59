"""Numbers, ordinals, dates and clock times in words, in both languages.

Not for digits: the bundled corpus spells everything out.
"""

from __future__ import annotations

_ONES_EN = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)
_TENS_EN = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_ONES_DE = (
    "null", "eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun", "zehn", "elf", "zwölf",
    "dreizehn", "vierzehn", "fünfzehn", "sechzehn", "siebzehn", "achtzehn", "neunzehn",
)
_TENS_DE = ("", "", "zwanzig", "dreißig", "vierzig", "fünfzig", "sechzig", "siebzig", "achtzig", "neunzig")
_ORDINALS_EN = {1: "first", 2: "second", 3: "third", 5: "fifth", 8: "eighth", 9: "ninth", 12: "twelfth"}
_ORDINALS_DE = {1: "erst", 3: "dritt", 7: "siebt", 8: "acht"}


def english_cardinal(n: int) -> str:
    """`n` from 0 to 9999 in British words: `three hundred and forty-two`."""
    if n >= 1000:
        rest = n % 1000
        joint = " and " if rest < 100 else " "
        return f"{english_cardinal(n // 1000)} thousand" + (joint + english_cardinal(rest) if rest else "")
    if n >= 100:
        return f"{_ONES_EN[n // 100]} hundred" + (f" and {english_cardinal(n % 100)}" if n % 100 else "")
    if n < 20:
        return _ONES_EN[n]
    return _TENS_EN[n // 10] + (f"-{_ONES_EN[n % 10]}" if n % 10 else "")


def german_cardinal(n: int) -> str:
    """`n` from 0 to 9999 in words, as one counts: `dreihundertzweiundvierzig`, `hunderteins`."""
    if n >= 1000:
        return _german_head(n // 1000) + "tausend" + (german_cardinal(n % 1000) if n % 1000 else "")
    if n >= 100:
        return _german_head(n // 100) + "hundert" + (german_cardinal(n % 100) if n % 100 else "")
    if n < 20:
        return _ONES_DE[n]
    one = "ein" if n % 10 == 1 else _ONES_DE[n % 10]
    return (f"{one}und" if n % 10 else "") + _TENS_DE[n // 10]


def _german_head(n: int) -> str:
    return "ein" if n == 1 else german_cardinal(n)


def english_ordinal(n: int) -> str:
    """`n` from 1 to 99: `third`, `twenty-first`."""
    if n in _ORDINALS_EN:
        return _ORDINALS_EN[n]
    if n > 20 and n % 10:
        return f"{_TENS_EN[n // 10]}-{english_ordinal(n % 10)}"
    word = english_cardinal(n)
    return word[:-1] + "ieth" if word.endswith("y") else word + "th"


def german_ordinal(n: int) -> str:
    """Stem of the ordinal `n` from 1 to 99, without its ending: `dritt`, `einundzwanzigst`."""
    if n in _ORDINALS_DE:
        return _ORDINALS_DE[n]
    return german_cardinal(n) + ("t" if n < 20 else "st")


def english_date(day: int, month: str) -> str:
    """`the third of May`."""
    return f"the {english_ordinal(day)} of {month}"


def german_date(day: int, month: str) -> str:
    """The date after `am`: `dritten Mai`."""
    return f"{german_ordinal(day)}en {month}"


def english_clock(hour: int, minute: int) -> str:
    """`hour` from 1 to 12 and `minute` a multiple of five: `half past three`, `ten to four`."""
    if minute == 0:
        return f"{english_cardinal(hour)} o'clock"
    following = english_cardinal(hour % 12 + 1)
    words = {15: "a quarter past", 30: "half past", 45: "a quarter to"}
    past = minute <= 30
    relation = words.get(minute) or f"{english_cardinal(minute if past else 60 - minute)} {'past' if past else 'to'}"
    return f"{relation} {english_cardinal(hour) if past else following}"


def german_clock(hour: int, minute: int) -> str:
    """The same time in German: `halb vier`, `fünf vor halb vier`, `zehn vor vier`."""
    this, following = german_cardinal(hour), german_cardinal(hour % 12 + 1)
    if minute == 0:
        return f"{'ein' if hour == 1 else this} Uhr"
    if minute == 30:
        return f"halb {following}"
    if minute in (25, 35):
        return f"fünf {'vor' if minute == 25 else 'nach'} halb {following}"
    if minute < 30:
        return f"{'Viertel' if minute == 15 else german_cardinal(minute)} nach {this}"
    return f"{'Viertel' if minute == 45 else german_cardinal(60 - minute)} vor {following}"
