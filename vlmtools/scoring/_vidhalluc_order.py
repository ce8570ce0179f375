"""Which of two actions came first, as VidHalluc's official program reads it out of an answer."""

import re

_ACTION = r"(?:action [ab]|[ab][.)])"
_WORD = r"(?:\baction [ab]\b|\b[ab][.)])"
"""The same without the last letters of other words, as in "climb."."""


def read_order(answer: str | None, lenient: bool = False) -> str:
    """The order an answer gives: AB, BA, A, B, or `None` in letters when it cannot be read.

    Args:
        answer: As the model wrote it.
        lenient: Read the letter where the official program reads the sign behind it, each letter once, and "AB." and
            "A, B" too. False is official.
    """
    said = (answer or "").lower()
    bare = re.sub(r"[^a-z]", "", said) if lenient else said
    if bare in ("ab", "ba", "a", "b"):
        return bare.upper()
    if "not clear" in said or "no clear" in said:
        return "None"
    named = [letter for letter in "ab" if f"action {letter}" in said]
    if len(named) < 2:
        return named[0].upper() if named else "None"
    return _in_order(said, _WORD if lenient else _ACTION, lenient)


def _in_order(said: str, name: str, lenient: bool) -> str:
    """The order by the first of before, then and after in the text, else the order in which the names stand."""
    word = next((word for word in ("before", "then", "after") if word in said), "")
    # the character classes exclude single letters, not words; the official pattern says so
    found = re.search(rf"({name})[^{word}]+{word}[^action]*?({name})", said) if word else None
    names = re.findall(name, said) if found is None else list(found.groups())
    if found is not None and word == "after":
        names.reverse()
    return _letters(names, lenient)


def _letters(names: list[str], lenient: bool) -> str:
    if lenient:
        return "".join(dict.fromkeys(name.rstrip(".)")[-1].upper() for name in names))
    return "".join(name[-1].upper() for name in names)
