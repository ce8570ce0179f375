"""Singular of an English noun by the rules that the official CHAIR program relies on, mistakes included.

They know no grammar: `bus` becomes `bu`, `glass` becomes `glas`, `ties` becomes `ty`, and CHAIR numbers depend on it.

The rules and word lists are facts from `pattern.en` (CLiPS, BSD-3-Clause), which adapted Bermi Ferrer Martinez's
Inflector (MIT). Here they are for lower-case words.
"""

import re
from functools import lru_cache

# ruff: noqa: SIM905 - lists of words are read as text

_PREPOSITIONS = frozenset(
    "about above across after among around at athwart before behind below beneath beside besides between betwixt "
    "beyond but by during except for from in into near of off on onto out over since till to under until unto upon "
    "with".split()
)
_SAME = (
    "bison bream breeches britches carp chassis christmas clippers cod contretemps corps debris diabetes djinn eland "
    "elk flounder gallows georgia graffiti headquarters herpes high-jinks homework innings jackanapes mackerel "
    "measles mews mumps news pincers pliers proceedings rabies salmon scissors series shears species swine swiss "
    "trout tuna whiting wildebeest "
    "advice bread butter cheese electricity equipment fruit furniture garbage gravel happiness information ketchup "
    "knowledge love luggage mathematics mayonnaise meat mustard progress research rice sand software understanding "
    "water"
).split()
_UNCHANGED = frozenset(word[begin:] for word in _SAME for begin in range(len(word) + 1))
"""Each of the words and each ending of one: the rule asks whether one of them ends with the given word."""
_IE = tuple(
    f"{word}s"
    for word in (
        "alergie auntie beanie birdie bogie bombie collie cookie cutie doggie eyrie freebie goonie groupie hankie "
        "hippie hoagie hottie indie junkie laddie laramie lingerie meanie newbie nightie oldie ^pie pixie quickie "
        "reverie rookie softie sortie stoolie sweetie techie ^tie toughie valkyrie veggie weenie yuppie zombie"
    ).split()
)
_IRREGULAR = {
    plural: singular
    for singular, plurals in {
        "atlas": "atlantes atlases", "axe": "axes", "beef": "beeves", "brother": "brethren", "child": "children",
        "corpus": "corpora corpuses", "ephemeris": "ephemerides", "foot": "feet", "ganglion": "ganglia",
        "goose": "geese", "genus": "genera", "genie": "genii", "graffito": "graffiti", "helve": "helves",
        "cow": "kine", "leaf": "leaves", "loaf": "loaves", "man": "men", "mongoose": "mongooses", "money": "monies",
        "move": "moves", "mythos": "mythoi", "numen": "numena", "occiput": "occipita", "octopus": "octopodes",
        "opus": "opera opuses", "my": "our", "ox": "oxen", "penis": "penes penises", "person": "people",
        "sex": "sexes", "soliloquy": "soliloquies", "tooth": "teeth", "testis": "testes", "trilby": "trilbys",
        "turf": "turves", "zoon": "zoa",
    }.items()
    for plural in plurals.split()
}  # fmt: skip
_IRREGULAR_ENDS = tuple(_IRREGULAR)

_RULES = tuple(
    (re.compile(ending), by)
    for ending, by in (
        (r"(.)ae$", r"\1a"), (r"(.)itis$", r"\1itis"), (r"(.)eaux$", r"\1eau"), (r"(quiz)zes$", r"\1"),
        (r"(matr)ices$", r"\1ix"), (r"(ap|vert|ind)ices$", r"\1ex"), (r"^(ox)en", r"\1"),
        (r"(alias|status)es$", r"\1"), (r"([octpvir|])i$", r"\1us"), (r"(cris|ax|test)es$", r"\1is"),
        (r"(shoe)s$", r"\1"), (r"(o)es$", r"\1"), (r"(bus)es$", r"\1"), (r"([ml|])ice$", r"\1ouse"),
        (r"(x|ch|ss|sh)es$", r"\1"), (r"(m)ovies$", r"\1ovie"), (r"(.)ombies$", r"\1ombie"),
        (r"(s)eries$", r"\1eries"), (r"([^aeiouy]|qu)ies$", r"\1y"), (r"([aeo]l)ves$", r"\1f"),
        (r"([^d]ea)ves$", r"\1f"), (r"arves$", "arf"), (r"erves$", "erve"), (r"([nlw]i)ves$", r"\1fe"),
        (r"([lr])ves$", r"\1f"), (r"([aeo])ves$", r"\1ve"), (r"(sive|tive|hive)s$", r"\1"),
        (r"([^f])ves$", r"\1fe"), (r"^analyses$", "analysis"),
        (r"(analy|ba|diagno|parenthe|progno|synop|the)ses$", r"\1sis"),
        (r"(.)opses$", r"\1opsis"), (r"(.)yses$", r"\1ysis"), (r"(h|d|r|o|n|b|cl|p)oses$", r"\1ose"),
        (r"(.)oses$", r"\1osis"),
        (r"([ti])a$", r"\1um"), (r"(n)ews$", r"\1ews"), (r"s$", ""),
    )
)  # fmt: skip

_RULED_ENDS = ("s", "a", "i", "ae", "ice", "eaux")
"""No rule but the one for oxen looks at any other word."""


@lru_cache(1 << 16)
def singular(word: str) -> str:
    """What the rules make of one lower-case word.

    Args:
        word: A token; blanks inside it are not expected.
    """
    head, dash, rest = word.partition("-")
    if dash and rest.partition("-")[0] in _PREPOSITIONS:
        return f"{singular(head)}-{rest}"
    if word.endswith("'"):
        return f"{singular(word[:-1])}'s"
    if word in _UNCHANGED or word.endswith(_IE):
        return word
    if word.endswith(_IRREGULAR_ENDS):
        return _irregular(word)
    return _regular(word)


def _irregular(word: str) -> str:
    plural = next(plural for plural in _IRREGULAR_ENDS if word.endswith(plural))
    return word.removesuffix(plural) + _IRREGULAR[plural]


def _regular(word: str) -> str:
    if not word.endswith(_RULED_ENDS) and not word.startswith("oxen"):
        return word
    for ending, by in _RULES:
        if ending.search(word):
            return ending.sub(by, word)
    return word
