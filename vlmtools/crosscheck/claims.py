"""Answers into claims: sentences with their place in the answer.

The default splitter is a rule set of our own: one pass of a regular expression finds every place where a
sentence could end, and a few rules decide each of them. `splitter="pysbd"` asks the package of that name.
"""

import re
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, Literal

from vlmtools.crosscheck.judges.base import Claim
from vlmtools.errors import BadInput, NotInstalled

Span = tuple[int, int]
Splitter = Literal["rules", "pysbd"]

_CLOSERS = r"""["'”’»›)\]}*_」』）】〉》]*(?:\[\d+\])*"""
_EMOJI = r"(?:[ ]?[\u2600-\u27bf\U0001f000-\U0001faff][\ufe0f\u200d]*)*"
_END = re.compile(rf"(?P<mark>[.!?…‼⁇⁈⁉]+|[。！？｡．।॥؟۔።]+)(?P<close>{_CLOSERS}){_EMOJI}")
_WIDE = frozenset("。！？｡．।॥؟۔።")
_LABEL = re.compile(r"(?:[-*•‣▪·–—+]|\(?(?:\d{1,3}|[A-Za-z]|[ivxIVX]{1,4})[.):])[ \t]+|#{1,6}[ \t]+|[•‣▪]")
_BREAK = re.compile(r"[ \t]*(?:\r\n|[\n\r\x0b\x0c\x85\u2028\u2029])\s*")
_LAST_WORD = re.compile(r"[^\s(\[{\"'“‘«*_/]+\Z")
_NEXT_WORD = re.compile(r"[\"'“‘«(\[{*_]*([^\W_]+(?:['’][^\W_]+)?)?")
_TOKEN = re.compile(r"\w+(?=n['’]t\b)|n['’]t\b|['’]\w+|\d+(?:[.,]\d+)*|\w+|\.{2,}|[^\w\s]")
_WRAPPED = 40
"""Shortest line that may be prose wrapped by width; shorter ones are list items."""
_HAS_WORD = re.compile(r"[^\W_]")
_ACRONYM = re.compile(r"(?:[^\W\d_]\.)*[^\W\d_]")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_BEFORE_NAME = _words(
    "dr mr mrs ms mx prof rev fr hon gen maj col lt sgt capt cmdr adm sen rep gov pres st mt ft messrs"
)
_NEVER_LAST = _words("e.g i.e eg ie vs cf viz approx ca resp incl esp esq")
_BEFORE_NUMBER = _words("no nos fig figs eq eqs sec ch vol pp p art ref tab")
_MAY_BE_LAST = _words(
    "etc al jr sr inc ltd co corp bros dept univ assn ave blvd rd a.m p.m am pm "
    "jan feb mar apr jun jul aug sep sept oct nov dec mon tue tues wed thu thur thurs fri sat sun "
    "u.s u.k u.s.a u.n e.u d.c ph.d m.d b.a m.a b.c a.d"
)
_STARTERS = _words(
    "the a an it its it's he she they we you i there there's this that these those his her their our my in "
    "on at as to for from by with under behind above near next beside another one two some several many most "
    "all both each but and or so also however overall additionally moreover furthermore if when while after "
    "before although because since who what where how why no yes not"
)


def sentences(
    text: str, *, min_tokens: int = 0, keep_one: bool = False, splitter: Splitter = "rules"
) -> tuple[Claim, ...]:
    """Split an answer into sentences; each claim is exactly what stands between its two places.

    Every non-blank character belongs to exactly one sentence. List items and lines are sentences of their
    own, except where a long line goes on in lower case. Pieces without any letter or digit (a rule, an
    emoji) stay with a neighbour.

    Args:
        text: The answer. Blank text has no sentences.
        min_tokens: Drop sentences with fewer tokens than this (words and punctuation marks count); 0 keeps
            all. The published image experiments keep sentences of 4 tokens or more.
        keep_one: When nothing is left, return the one claim "." as those experiments do, at place 0 to 0.
        splitter: `rules` (ours, fast) or `pysbd` (the package, some thirty times slower, English rules).

    Raises:
        BadInput: `splitter` is neither of the two.
        NotInstalled: `pysbd` is asked for and not there.

    Reference: arXiv:2405.13684 (sentences as units).
    """
    claims = (Claim(text[start:end], start, end) for start, end in spans(text, splitter))
    kept = tuple(claim for claim in claims if not min_tokens or count_tokens(claim.text) >= min_tokens)
    return kept or ((Claim(".", 0, 0),) if keep_one else ())


def spans(text: str, splitter: Splitter = "rules") -> list[Span]:
    """(first, one past last) character of every sentence, in order, blanks left out.

    Args:
        text: The answer.
        splitter: As for `sentences`.
    """
    splitters: dict[str, Callable[[str], Iterator[Span]]] = {"rules": _by_rules, "pysbd": _by_pysbd}
    if splitter not in splitters:
        raise BadInput(
            f"There is no sentence splitter {splitter!r}. There is: pysbd, rules. Choose one of them."
        )
    return _join_wordless(text, [_trim(text, span) for span in splitters[splitter](text)])


def count_tokens(text: str) -> int:
    """Words and punctuation marks, contractions in two parts: close to how common English tokenizers count.

    Args:
        text: One sentence.
    """
    return len(_TOKEN.findall(text))


def _trim(text: str, span: Span) -> Span:
    piece = text[span[0] : span[1]]
    start = span[0] + len(piece) - len(piece.lstrip())
    return start, start + len(piece.strip())


def _join_wordless(text: str, pieces: list[Span]) -> list[Span]:
    """Attach pieces without a letter or digit to the piece before, or at the start to the one after."""
    joined: list[Span] = []
    for start, end in pieces:
        if start == end:
            continue
        lonely = not _HAS_WORD.search(text, start, end)
        if joined and (lonely or not _HAS_WORD.search(text, *joined[-1])):
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return joined


def _by_rules(text: str) -> Iterator[Span]:
    for start, end in _lines(text):
        yield from _in_line(text, start, end)


def _lines(text: str) -> Iterator[Span]:
    """Lines and paragraphs; a line break inside a sentence (lower case follows) is none."""
    start = 0
    for found in _BREAK.finditer(text):
        if not _goes_on(text, start, found):
            yield start, found.end()
            start = found.end()
    yield start, len(text)


def _goes_on(text: str, start: int, found: re.Match[str]) -> bool:
    before, after = text[start : found.start()].rstrip(), text[found.end() : found.end() + 8]
    one_break = len(found.group().splitlines()) == 1
    return (
        one_break
        and len(before) >= _WRAPPED
        and after[:1].islower()
        and before[-1:].isalnum()
        and not _LABEL.match(after)
    )


def _in_line(text: str, start: int, end: int) -> Iterator[Span]:
    body = _after_label(text, start, end)
    for found in _END.finditer(text, start, end):
        if found.start() >= body and _ends_sentence(text, found, start, end):
            yield start, found.end()
            start = found.end()
            body = _after_label(text, start, end)
    yield start, end


def _after_label(text: str, start: int, end: int) -> int:
    """Where the words begin after "1. ", "- ", "a) " and blanks."""
    while start < end and text[start].isspace():
        start += 1
    found = _LABEL.match(text, start, end)
    return found.end() if found else start


def _ends_sentence(text: str, found: re.Match[str], start: int, end: int) -> bool:
    mark, stop = found["mark"], found.end()
    if mark[-1] in _WIDE or stop >= end:
        return True
    if not text[stop].isspace():
        return mark == "." and not found["close"] and _space_forgotten(text, found.start(), end)
    after = text[stop:end].lstrip()
    if mark == ".":
        return _full_stop_ends(text[start : found.start()], after, bool(found["close"]))
    if found["close"] or mark.startswith(("..", "…")):
        return not after[:1].islower()
    return True


def _space_forgotten(text: str, dot: int, end: int) -> bool:
    """`a dog.The cat` is two sentences; `a.The`, `site.Com.` and `Dr.Who` are not."""
    before = _LAST_WORD.search(text[max(0, dot - 24) : dot])
    word, following = before.group() if before else "", _NEXT_WORD.match(text, dot + 1, end)
    known = following is not None and (following.group(1) or "").lower() in _STARTERS
    return known and text[dot + 1].isupper() and len(word) > 2 and word.isalpha() and word.islower()


def _full_stop_ends(before: str, after: str, closed: bool) -> bool:
    found = _LAST_WORD.search(before)
    word = found.group().lower() if found else ""
    following = _NEXT_WORD.match(after)
    next_word = (following.group(1) if following else None) or ""
    if word in _BEFORE_NAME or word in _NEVER_LAST:
        return False
    if word in _BEFORE_NUMBER and next_word[:1].isdigit():
        return False
    if word in _MAY_BE_LAST or (word and word != "i" and _ACRONYM.fullmatch(word)):
        return next_word[:1].isupper() and next_word.lower() in _STARTERS
    return not (closed and next_word[:1].islower())


def _by_pysbd(text: str) -> Iterator[Span]:
    """Sentences found by pysbd, widened so that nothing between two of them is lost."""
    start = 0
    for line_start, line_end in _lines(text):
        for end in _pysbd_ends(text[line_start:line_end]):
            yield start, line_start + end
            start = line_start + end
        if start < line_end:
            yield start, line_end
            start = line_end


def _pysbd_ends(line: str) -> list[int]:
    if not line.strip():
        return []
    place, ends = 0, []
    for sentence in _segmenter().segment(line):
        found = line.find(sentence, place)
        if found >= 0:
            place = found + len(sentence)
            ends.append(place)
    return ends


@cache
def _segmenter() -> Any:
    with warnings.catch_warnings():
        # pysbd writes its regular expressions without raw strings, which newer Pythons warn about.
        warnings.simplefilter("ignore")
        try:
            import pysbd
        except ImportError:
            raise NotInstalled(
                "splitter='pysbd' needs the package 'pysbd', which is not installed. Run: pip install pysbd, "
                "or use splitter='rules'."
            ) from None
        return pysbd.Segmenter(language="en", clean=False)
