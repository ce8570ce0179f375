"""Reading yes and no out of what a model wrote: the published rules, and ours."""

import re
import unicodedata
from collections.abc import Mapping

from vlmtools.crosscheck.judges.base import Vote

_NUMBERED = re.compile(r"\(?(\d+)[.):]?\)?[ \t]*[-:]?[ \t]*(yes|no)[.!]?", re.IGNORECASE)
_FIELD = re.compile(r"answer\W{0,4}[:=]\W{0,4}(yes|no)\b")
_WORD = re.compile(r"\b(yes|no)\b")
_PREAMBLE = re.compile(r"^(?:the\s+)?answer(?:\s+is)?\s*[:=]?\s*")


def starts_with(text: str) -> Vote:
    """Published rule of the prompt judge: starts with "yes" → 1, with "no" → 0, anything else .5.

    Args:
        text: The reply; it is lower-cased and stripped, nothing else.

    Reference: arXiv:2405.13684, explicit (the rule of its code: "not", "none" and "now" count as "no").
    """
    lowered = text.lower().strip()
    if lowered.startswith("yes"):
        return Vote(1.0, raw=text)
    return Vote(0.0, raw=text) if lowered.startswith("no") else _unread(text)


def starts_with_lenient(text: str) -> Vote:
    """Like `starts_with`, after dropping decoration: other scripts' widths, asterisks, quotes, "Answer:".

    Args:
        text: The reply.
    """
    plain = unicodedata.normalize("NFKC", text).lower()
    plain = re.sub(r"^[\W_]+", "", _PREAMBLE.sub("", re.sub(r"^[\W_]+", "", plain)))
    return Vote(starts_with(plain).support, starts_with(plain).parsed, text)


def numbered(text: str, n: int) -> tuple[bool, ...] | None:
    """Verdicts from a numbered list, or None unless it is exactly the numbers 1 to n, one yes or no each.

    Args:
        text: The reply, one verdict per line; blank lines do not matter.
        n: How many verdicts were asked for, at least 1.
    """
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    found = [_NUMBERED.fullmatch(line) for line in lines]
    if len(found) != n or any(match is None or match[1] != str(i) for i, match in enumerate(found, 1)):
        return None
    return tuple(match is not None and match[2].lower() == "yes" for match in found)


def yes_share(probabilities: Mapping[str, float], text: str) -> Vote:
    """P(yes) / (P(yes) + P(no)) over first tokens that read yes or no once stripped and lower-cased.

    Args:
        probabilities: First token → probability, 0 to 1.
        text: The reply, kept as `raw`.
    """
    mass = {"yes": 0.0, "no": 0.0}
    for token, probability in probabilities.items():
        word = token.strip().lower()
        if word in mass:
            mass[word] += probability
    total = mass["yes"] + mass["no"]
    return Vote(mass["yes"] / total, raw=text) if total > 0 else _unread(text)


def errors_by_substring(text: str) -> Vote:
    """Published rule of the implicit judge, where yes means errors: "yes" and not "no" → 0, the reverse → 1, else .5.

    Args:
        text: The reply. Letters are searched, not words: "cannot", "know" and "another" contain "no".

    Reference: arXiv:2405.13684, implicit (the rule of its code).
    """
    lowered = text.lower()
    yes, no = "yes" in lowered, "no" in lowered
    return _unread(text) if yes == no else Vote(0.0 if yes else 1.0, raw=text)


def errors_by_word(text: str) -> Vote:
    """Our rule, where yes means errors: the `Answer` field if it is there, else the only one of the words yes and no.

    Args:
        text: The reply.
    """
    lowered = text.lower()
    said = set(_FIELD.findall(lowered)) or set(_WORD.findall(lowered))
    return Vote(0.0 if said == {"yes"} else 1.0, raw=text) if len(said) == 1 else _unread(text)


def _unread(text: str) -> Vote:
    return Vote(0.5, parsed=False, raw=text)
