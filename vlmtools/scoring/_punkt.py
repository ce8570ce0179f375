"""Where sentences end in lower-cased English text, decided exactly as the Punkt model of NLTK decides it.

CHAIR lower-cases a caption before it looks for sentences. That leaves only a part of Punkt at work: known
abbreviations, initials, numbers, ellipses, and a handful of learnt word pairs. Nearly all of the 20,000 words of its
model say the same about a lower-case word, "this does not begin a sentence", and four do not.

The word lists below are facts from the English Punkt model (Kiss and Strunk, 2006; distributed with NLTK,
Apache-2.0). Behaviour follows NLTK 3.10, which also lets curly quotes close a sentence.
"""

# ruff: noqa: SIM905 - lists of words are read as text

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import pairwise

Span = tuple[int, int]

BLANK = r"[^\S\x1c-\x1f]"
"""White space as NLTK sees it: its regular expressions do not count four old control characters as blank."""

_ABBREVIATIONS = frozenset(
    """
    a.a a.c a.d a.g a.h a.m a.m.e a.s a.t adm ala ariz aug ave b.f b.v bros c c.i.t c.o.m.b c.v calif
    chg cie co col colo conn corp cos ct d d.c d.h d.w dec dr e e.f e.h e.l e.m f f.g f.j feb fla fri ft
    g g.d g.f g.k ga gen h h.c h.f h.m i.m.s ill inc j.b j.c j.j j.k j.p j.r jan jr k kan ky l l.a l.f
    l.p lt ltd m m.b.a m.d.c m.j maj messrs mg mich minn mr mrs ms n n.c n.d n.h n.j n.m n.v n.y nev nov
    oct ok okla ore p p.a.m p.m pa ph.d prof r r.a r.h r.i r.j r.k r.t rep reps s s.a s.a.y s.c s.g
    s.p.a s.s sen sep sept sr st sw t t.j tenn tues u.k u.n u.s u.s.a u.s.s.r v va vs vt w w.c w.r w.va
    w.w wash wed wis yr
    """.split()
) | {". . "}
_NUMBER = "##number##"
_PAIRS = {
    _NUMBER: "abreast aes business cbot colgate commodities cooper corrections credit dividend financing "
    "genentech henley insider international leisure letters notable pay-fone pegasus pepper review rj "
    "wedgestone who zimmer",
    "b": "edelman levine smith stewart wigton",
    "i": "magnin toussie",
    "j": "aron fialka walter",
    "o": "ludcke",
}
_COLLOCATIONS = frozenset((first, second) for first, words in _PAIRS.items() for second in words.split())
_LOWER_STARTERS = frozenset({"administrators", "b-week", "r-revised", "z-holiday"})
"""The words that the model has seen begin a sentence in lower case and never in upper case."""

_NON_WORD = r"""[)";}\]*:@'({\[‘’“”«»?!]"""
_MULTI = rf"(?:-{{2,}}|\.{{2,}}|(?:\.{BLANK}){{2,}}\.)"
_WORD_END = rf"(?={BLANK}|$|{_NON_WORD}|{_MULTI}|,(?=$|{BLANK}|{_NON_WORD}|{_MULTI}))"
_WORDS = re.compile(rf"""{_MULTI}|(?=[^("`{{\[:;&#*@)}}\]\-,])[\S\x1c-\x1f]+?{_WORD_END}|[\S\x1c-\x1f]""")
_CANDIDATE = re.compile(rf"[.?!](?=(?P<after>{_NON_WORD}|{BLANK}+(?P<next>[\S\x1c-\x1f]+)))")
_CLOSERS = re.compile(rf"""["')\]}}‘’“”«»]+?(?:{BLANK}+|(?=--)|$)""", re.MULTILINE)
_NUMERIC = re.compile(r"^-?[.,]?\d[\d,.-]*\.?$")
_MARKS = "\u0300-\u036f\ufe00-\ufe0f\u200c\u200d\u20d0-\u20f0"
_NO_WORD = "\u00b2\u00b3\u00b9\u00bc-\u00be"
WORD = rf"(?:[\w{_MARKS}](?<![{_NO_WORD}]))"
"""A word character as NLTK sees it: combining marks are, superscript digits and fractions are not."""
NOT_AFTER_WORD = rf"(?:(?<!\w)|(?<=[{_NO_WORD}]))(?<![{_MARKS}])"
_INITIAL = re.compile(rf"(?!\d){WORD}\.$")
_ORDINARY = re.compile(r"([a-z]{2,})\.\s+[a-z]")


def sentence_spans(text: str) -> list[Span]:
    """Places of the sentences of `text`, which must be in lower case already.

    Blanks between sentences belong to none; closing quotes and brackets stay with the sentence they close.

    Args:
        text: Lower-cased text.
    """
    return list(_realigned(text, _slices(text)))


def _slices(text: str) -> Iterator[Span]:
    begin = 0
    for match, context in _candidates(text):
        if _breaks(context):
            yield begin, match.end()
            begin = match.start("next") if match["next"] else match.end()
    yield begin, len(text.rstrip())


def _candidates(text: str) -> Iterator[tuple[re.Match[str], str]]:
    """Marks that may end a sentence (of those in one word the last), with the word before and the token after."""
    start = stop = 0
    last: re.Match[str] | None = None
    for match in _CANDIDATE.finditer(text):
        blank = _last_blank(text, stop, match.start())
        word = blank + 1 if blank > stop else start
        if last is not None and stop <= word:
            yield last, text[start:stop] + last.group() + last["after"]
        last, start, stop = match, word, match.start()
    if last is not None:
        yield last, text[start:stop] + last.group() + last["after"]


def _last_blank(text: str, start: int, stop: int) -> int:
    """The last ASCII blank of text[start:stop], or -1."""
    return max(text.rfind(blank, start, stop) for blank in " \n\t\r\x0b\x0c")


@lru_cache(1 << 14)
def _breaks(context: str) -> bool:
    ordinary = _ORDINARY.match(context)
    if ordinary is not None and ordinary[1] not in _ABBREVIATIONS:
        return True
    return any(_ends(token, after) for token, after in pairwise(_tokens(context)))


def _tokens(context: str) -> list[str]:
    return [token for line in context.split("\n") if line.strip() for token in _WORDS.findall(line)]


def _ends(token: str, after: str) -> bool:
    """Does a sentence end with `token`, seen what follows it?"""
    ends = _ends_alone(token)
    if not token.endswith("."):
        return ends
    kind, next_kind = _kind(token, drop_period=True), _kind(after, drop_period=_ends_alone(after))
    if (kind, next_kind) in _COLLOCATIONS:
        return False
    initial = _INITIAL.match(token) is not None
    if (initial or kind == _NUMBER) and (after in tuple(";:,.!?") or _goes_on(after[0], next_kind)):
        return False
    return ends and not (initial and after[0].isupper())


def _ends_alone(token: str) -> bool:
    """The first guess, from the token alone: an end mark, or a period that belongs to no known abbreviation."""
    if token in (".", "?", "!"):
        return True
    if not token.endswith(".") or token.endswith(".."):
        return False
    word = token[:-1]
    return word not in _ABBREVIATIONS and word.rpartition("-")[2] not in _ABBREVIATIONS


def _kind(token: str, *, drop_period: bool) -> str:
    kind = _NUMERIC.sub(_NUMBER, token)
    return kind[:-1] if drop_period and len(kind) > 1 and kind.endswith(".") else kind


def _goes_on(first: str, kind: str) -> bool:
    return first.islower() and kind not in _LOWER_STARTERS


def _realigned(text: str, slices: Iterable[Span]) -> Iterator[Span]:
    """Moves closing quotes and brackets at the head of a sentence to the tail of the one before it."""
    moved = 0
    for (begin, end), following in _with_next(slices):
        begin += moved
        closers = _CLOSERS.match(text[slice(*following)]) if following else None
        moved = closers.end() if closers else 0
        if following is not None and closers is not None:
            yield begin, following[0] + len(closers.group().rstrip())
        elif begin < end:
            yield begin, end


def _with_next(slices: Iterable[Span]) -> Iterator[tuple[Span, Span | None]]:
    spans = list(slices)
    yield from zip(spans, [*spans[1:], None], strict=True)
