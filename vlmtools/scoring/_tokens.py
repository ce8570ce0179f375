"""Words and punctuation of lower-cased English text, exactly as NLTK's `word_tokenize` gives them.

A sentence goes through the Treebank rules, which look across blanks only for quotes and for the final period. So the
words of a sentence without such marks are taken one by one from a cache, and only the others pay for the rules.

The rules are facts from NLTK's word tokenizer (Apache-2.0, after Robert MacIntyre's for the Penn Treebank). Behaviour
follows NLTK 3.10, which sets an opening single quote apart from its word ('apple' is three tokens); earlier releases
do so for single letters only.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain

from vlmtools.scoring._punkt import BLANK, NOT_AFTER_WORD, WORD, Span, sentence_spans

_Rule = tuple[re.Pattern[str], str]


def _rules(*pairs: tuple[str, str]) -> tuple[_Rule, ...]:
    return tuple((re.compile(pattern), by) for pattern, by in pairs)


_BEFORE_PADDING = _rules(
    (r"([«“‘„]|`+)", r" \1 "),
    (r'^"', "``"),
    (r"(``)", r" \1 "),
    (r"""([ (\[{<])("|'')""", r"\1 `` "),
    (rf"(?i){NOT_AFTER_WORD}(')(?!(?:re|ve|ll|m|t|s|d|n)(?!{WORD}))(?={WORD})", r"\1 "),
    (rf"""([^.])(\.)([\])}}>"' »”’]*+){BLANK}*$""", r"\1 \2 \3 "),
    (r"([:,])([^\d])", r" \1 \2"),
    (r"([:,])$", r" \1 "),
    (r"(\.{2,}|[;@#$%&])", r" \1 "),
    (r"([\u2012-\u2015])", r" \1 "),
    (rf"""([^.])(\.)([\])}}>"']*){BLANK}*$""", r"\1 \2\3 "),
    (r"([?!])", r" \1 "),
    (r"([^'])' ", r"\1 ' "),
    (r"([*\]\[(){}<>]|--)", r" \1 "),
)
_AFTER_PADDING = _rules(
    (r"([»”’])", r" \1 "),
    (r"''|\"", " '' "),
    (rf"{BLANK}+", " "),
    (r"([^' ])('[sSmMdD]|') ", r"\1 \2 "),
    (r"([^' ])('ll|'re|'ve|n't) ", r"\1 \2 "),
    (r"(?i)\b(can)(not)\b", r" \1 \2 "),
    (r"(?i)\b(d)('ye)\b", r" \1 \2 "),
    (r"(?i)\b(gim|lem)(me)\b", r" \1 \2 "),
    (r"(?i)\b(gon)(na)\b", r" \1 \2 "),
    (r"(?i)\b(got)(ta)\b", r" \1 \2 "),
    (r"(?i)\b(more)('n)\b", r" \1 \2 "),
    (r"(?i)\b(wan)(na)(?=\s)", r" \1 \2 "),
    (r"(?i) ('t)(is)\b", r" \1 \2 "),
    (r"(?i) ('t)(was)\b", r" \1 \2 "),
)
_INDEPENDENT = re.compile(r"(?:[a-z0-9,;:?!()\[\]{}<>@#$%&*/+=_.~^|\\-]|(?<=[a-z])'(?=[a-z]))+")
_LETTERS_AND_MARK = re.compile(r"([a-z]+)([,;:?!]?)")
_LETTERS_AND_END = re.compile(r"([a-z]+)([.,;:?!]?)")
_CONTRACTED = frozenset({"cannot", "gimme", "lemme", "gonna", "gotta", "wanna"})
_HAS_WORD = re.compile(r"[a-z0-9]")
_ODD_BLANK = re.compile(r"[\x1c-\x1f]")


def tokens(text: str) -> list[str]:
    """Tokens of `text`, which must be in lower case already; quotes come out as `` and ''.

    Args:
        text: Lower-cased text of any number of sentences.
    """
    split = _by_rules if _ODD_BLANK.search(text) else _by_word
    return list(chain.from_iterable(split(text[begin:end]) for begin, end in sentence_spans(text)))


def token_spans(text: str, found: Sequence[str]) -> list[Span]:
    """Where each of the `tokens` of `text` stands in it.

    Args:
        text: The text that was tokenized.
        found: All its tokens, in order.
    """
    spans: list[Span] = []
    place = 0
    for token in found:
        begin = len(text) - len(text[place:].lstrip())
        place = begin + (len(token) if text.startswith(token, begin) else _quote_width(text, begin))
        spans.append((begin, place))
    return spans


def _quote_width(text: str, begin: int) -> int:
    """The rules write a double quote as `` or ''; in the text it is one character, or two single quotes."""
    return 1 if text.startswith('"', begin) else 2


def _by_word(sentence: str) -> Sequence[str]:
    words = sentence.split()
    if not words:
        return ()
    parts = [*map(_inner_word, words[:-1]), _last_word(words[-1])]
    return list(chain.from_iterable(parts)) if all(parts) else _by_rules(sentence)


@lru_cache(1 << 16)
def _inner_word(word: str) -> tuple[str, ...]:
    """Tokens of a word that is not the last of its sentence; none when they depend on its neighbours."""
    simple = _LETTERS_AND_MARK.fullmatch(word)
    if simple and simple[1] not in _CONTRACTED:
        return tuple(filter(None, simple.groups()))
    return tuple(_by_rules(f"{word} x")[:-1]) if _INDEPENDENT.fullmatch(word) else ()


@lru_cache(1 << 14)
def _last_word(word: str) -> tuple[str, ...]:
    """The same for the last word, which may lose its period; marks alone would let it be further left."""
    simple = _LETTERS_AND_END.fullmatch(word)
    if simple and simple[1] not in _CONTRACTED:
        return tuple(filter(None, simple.groups()))
    if not (_INDEPENDENT.fullmatch(word) and _HAS_WORD.search(word)):
        return ()
    return tuple(_by_rules(f"x {word}")[1:])


def _by_rules(sentence: str) -> list[str]:
    for pattern, by in _BEFORE_PADDING:
        sentence = pattern.sub(by, sentence)
    sentence = f" {sentence} "
    for pattern, by in _AFTER_PADDING:
        sentence = pattern.sub(by, sentence)
    return sentence.split()
