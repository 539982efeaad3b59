"""The inflection of the bundled corpus against the paradigms of a school grammar, written out by hand."""

from __future__ import annotations

import pytest

from jaxformer.data.bundled import english, german, numerals, phrases, verbs
from jaxformer.data.bundled.german import ACC, DAT, FORMAL, GEN, HE, ME, NOM, THEY, WE, YOU

CASES = (NOM, ACC, DAT, GEN)
VERBS = {(verb.english, verb.prepositions[0], verb.particle): verb for verb in verbs.VERBS}


def spelled(determiner: phrases.Determiner, adjective: str, noun: str, *, plural: bool = False) -> list[str]:
    """The four German cases of a phrase."""
    return [
        phrases.spell(phrases.NOUNS[noun], plural, determiner, phrases.ADJECTIVES[adjective], case)[1]
        for case in CASES
    ]


@pytest.mark.parametrize(
    ("determiner", "noun", "expected"),
    [
        (phrases.THE, "man", "der alte Mann, den alten Mann, dem alten Mann, des alten Mannes"),
        (phrases.THE, "woman", "die alte Frau, die alte Frau, der alten Frau, der alten Frau"),
        (phrases.THE, "child", "das alte Kind, das alte Kind, dem alten Kind, des alten Kindes"),
        (phrases.A, "man", "ein alter Mann, einen alten Mann, einem alten Mann, eines alten Mannes"),
        (phrases.A, "woman", "eine alte Frau, eine alte Frau, einer alten Frau, einer alten Frau"),
        (phrases.A, "child", "ein altes Kind, ein altes Kind, einem alten Kind, eines alten Kindes"),
        (phrases.NOT_A, "student", "kein alter Student, keinen alten Studenten, keinem alten Studenten, "
                                   "keines alten Studenten"),
        (phrases.THIS, "neighbour", "dieser alte Nachbar, diesen alten Nachbarn, diesem alten Nachbarn, "
                                    "dieses alten Nachbarn"),
        (phrases.MINE[WE], "car", "unser altes Auto, unser altes Auto, unserem alten Auto, unseres alten Autos"),
        (phrases.BARE, "wine", "alter Wein, alten Wein, altem Wein, alten Weines"),
        (phrases.BARE, "milk", "alte Milch, alte Milch, alter Milch, alter Milch"),
        (phrases.BARE, "bread", "altes Brot, altes Brot, altem Brot, alten Brotes"),
    ],
)
def test_singular_paradigms(determiner: phrases.Determiner, noun: str, expected: str) -> None:
    assert ", ".join(spelled(determiner, "old", noun)) == expected


@pytest.mark.parametrize(
    ("determiner", "noun", "expected"),
    [
        (phrases.THE, "man", "die alten Männer, die alten Männer, den alten Männern, der alten Männer"),
        (phrases.MINE[ME], "car", "meine alten Autos, meine alten Autos, meinen alten Autos, meiner alten Autos"),
        (phrases.BARE, "woman", "alte Frauen, alte Frauen, alten Frauen, alter Frauen"),
        (phrases.MANY, "child", "viele alte Kinder, viele alte Kinder, vielen alten Kindern, vieler alter Kinder"),
        (phrases.ALL, "teacher", "alle alten Lehrer, alle alten Lehrer, allen alten Lehrern, aller alten Lehrer"),
        (phrases.NUMBERS[0], "horse", "zwei alte Pferde, zwei alte Pferde, zwei alten Pferden, zwei alter Pferde"),
    ],
)
def test_plural_paradigms(determiner: phrases.Determiner, noun: str, expected: str) -> None:
    assert ", ".join(spelled(determiner, "old", noun, plural=True)) == expected


@pytest.mark.parametrize(
    ("adjective", "noun", "expected"),
    [
        ("expensive", "car", "ein teures Auto"), ("dark", "coat", "ein dunkler Mantel"),
        ("tired", "man", "ein müder Mann"),
    ],
)
def test_adjective_stems(adjective: str, noun: str, expected: str) -> None:
    assert spelled(phrases.A, adjective, noun)[NOM] == expected


def test_every_possessive_has_its_person() -> None:
    german_forms = [mine.german[german.MASCULINE][ACC] for mine in phrases.MINE]
    assert german_forms == ["meinen", "deinen", "seinen", "ihren", "seinen", "unseren", "ihren", "Ihren"]
    assert [mine.english for mine in phrases.MINE] == ["my", "your", "his", "her", "its", "our", "their", "your"]


@pytest.mark.parametrize(
    ("preposition", "phrase", "expected"),
    [
        ("in", "dem Garten", "im Garten"), ("in", "das alte Haus", "ins alte Haus"), ("zu", "der Schule", "zur Schule"),
        ("zu", "dem Bahnhof", "zum Bahnhof"), ("an", "dem See", "am See"), ("von", "dem Buch", "vom Buch"),
        ("in", "der Stadt", "in der Stadt"), ("in", "diesem Haus", "in diesem Haus"),
        ("mit", "dem Kind", "mit dem Kind"),
    ],
)
def test_prepositions_contract_with_the_article(preposition: str, phrase: str, expected: str) -> None:
    assert german.preposition(preposition, phrase) == expected


@pytest.mark.parametrize(
    ("infinitive", "er", "expected"),
    [
        ("kaufen", "kauft", "kaufe kaufst kauft kaufen"), ("lesen", "liest", "lese liest liest lesen"),
        ("arbeiten", "arbeitet", "arbeite arbeitest arbeitet arbeiten"),
        ("fahren", "fährt", "fahre fährst fährt fahren"), ("essen", "isst", "esse isst isst essen"),
        ("putzen", "putzt", "putze putzt putzt putzen"), ("waschen", "wäscht", "wasche wäschst wäscht waschen"),
        ("lächeln", "lächelt", "lächle lächelst lächelt lächeln"),
        ("wandern", "wandert", "wandere wanderst wandert wandern"), ("laden", "lädt", "lade lädst lädt laden"),
        ("haben", "hat", "habe hast hat haben"), ("nehmen", "nimmt", "nehme nimmst nimmt nehmen"),
    ],
)
def test_present(infinitive: str, er: str, expected: str) -> None:
    forms = german.present(infinitive, er)
    assert [forms[person] for person in (ME, YOU, HE, WE)] == expected.split()
    assert forms[THEY] == forms[FORMAL] == infinitive


@pytest.mark.parametrize(
    ("er", "expected"), [("kaufte", "kaufte kaufte kauften"), ("ging", "ging ging gingen"), ("aß", "aß aß aßen")]
)
def test_preterite(er: str, expected: str) -> None:
    forms = german.preterite(er)
    assert [forms[person] for person in (ME, HE, THEY)] == expected.split()


@pytest.mark.parametrize(
    ("key", "zu", "perfect"),
    [
        (("call", "", ""), "anzurufen", "angerufen hat"), (("go", "", ""), "zu gehen", "gegangen ist"),
        (("get up", "", ""), "aufzustehen", "aufgestanden ist"),
        (("go for a walk", "", ""), "spazieren zu gehen", "spazieren gegangen ist"),
        (("turn", "", "on"), "einzuschalten", "eingeschaltet hat"),
    ],
)
def test_separable_verbs(key: tuple[str, str, str], zu: str, perfect: str) -> None:
    assert VERBS[key].infinitive_zu == zu
    assert VERBS[key].groups[verbs.PERFECT].final[HE] == perfect


@pytest.mark.parametrize(
    ("base", "third", "gerund"),
    [
        ("go", "goes", "going"), ("write", "writes", "writing"), ("tidy", "tidies", "tidying"),
        ("lie", "lies", "lying"),
        ("watch television", "watches television", "watching television"), ("sit", "sits", "sitting"),
        ("see", "sees", "seeing"), ("play", "plays", "playing"),
        ("have breakfast", "has breakfast", "having breakfast"),
        ("travel", "travels", "travelling"), ("run after", "runs after", "running after"),
        ("visit", "visits", "visiting"), ("open", "opens", "opening"),
    ],
)
def test_english_verbs(base: str, third: str, gerund: str) -> None:
    assert english.third_person(base) == third
    assert english.gerund(base) == gerund


@pytest.mark.parametrize(
    ("word", "article"), [("apple", "an"), ("old man", "an"), ("umbrella", "an"), ("university", "a"), ("house", "a")]
)
def test_indefinite_article(word: str, article: str) -> None:
    assert english.indefinite(word) == article


@pytest.mark.parametrize(
    ("number", "english_words", "german_words"),
    [
        (0, "zero", "null"), (1, "one", "eins"), (16, "sixteen", "sechzehn"), (17, "seventeen", "siebzehn"),
        (21, "twenty-one", "einundzwanzig"), (30, "thirty", "dreißig"), (76, "seventy-six", "sechsundsiebzig"),
        (100, "one hundred", "einhundert"), (101, "one hundred and one", "einhunderteins"),
        (342, "three hundred and forty-two", "dreihundertzweiundvierzig"),
        (1000, "one thousand", "eintausend"), (2005, "two thousand and five", "zweitausendfünf"),
        (9999, "nine thousand nine hundred and ninety-nine", "neuntausendneunhundertneunundneunzig"),
    ],
)
def test_cardinals(number: int, english_words: str, german_words: str) -> None:
    assert numerals.english_cardinal(number) == english_words
    assert numerals.german_cardinal(number) == german_words


@pytest.mark.parametrize(
    ("day", "english_date", "german_date"),
    [
        (1, "the first of May", "ersten Mai"), (3, "the third of May", "dritten Mai"),
        (7, "the seventh of May", "siebten Mai"), (8, "the eighth of May", "achten Mai"),
        (12, "the twelfth of May", "zwölften Mai"), (19, "the nineteenth of May", "neunzehnten Mai"),
        (20, "the twentieth of May", "zwanzigsten Mai"), (31, "the thirty-first of May", "einunddreißigsten Mai"),
    ],
)
def test_dates(day: int, english_date: str, german_date: str) -> None:
    assert numerals.english_date(day, "May") == english_date
    assert numerals.german_date(day, "Mai") == german_date


@pytest.mark.parametrize(
    ("hour", "minute", "english_time", "german_time"),
    [
        (1, 0, "one o'clock", "ein Uhr"), (3, 30, "half past three", "halb vier"),
        (12, 30, "half past twelve", "halb eins"), (3, 15, "a quarter past three", "Viertel nach drei"),
        (3, 45, "a quarter to four", "Viertel vor vier"), (5, 25, "twenty-five past five", "fünf vor halb sechs"),
        (5, 35, "twenty-five to six", "fünf nach halb sechs"), (12, 50, "ten to one", "zehn vor eins"),
        (6, 20, "twenty past six", "zwanzig nach sechs"),
    ],
)
def test_clock_times(hour: int, minute: int, english_time: str, german_time: str) -> None:
    assert numerals.english_clock(hour, minute) == english_time
    assert numerals.german_clock(hour, minute) == german_time
