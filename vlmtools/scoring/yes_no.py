"""Yes or no: how answers are read by the official rules and by a lenient one, and what is counted.

The official rules are kept with their traps, because published numbers contain them:

* POPE knows only "no": anything else is a yes, an empty answer, "NO" and "I am not sure" without a lone "not" included.
* RePOPE looks for "yes", then for "no", inside words as well: "I cannot know" is a no, "eyes" is a yes.
"""

import re
from collections.abc import Mapping
from typing import Literal

YesNo = Literal["yes", "no"]

_WORDS = re.compile(r"[a-z']+")
_NEGATIONS = re.compile(r"\b(?:no|not|none|nothing|never|without|isn't|aren't|doesn't|don't|cannot|can't)\b")
_UNSURE = re.compile(
    r"\b(?:not (?:sure|clear|certain|possible)|unclear|unsure|uncertain|unable|impossible|sorry"
    r"|(?:cannot|can't) (?:tell|determine|say|know|answer|be (?:determined|sure|certain|answered))"
    r"|don't know|do not know|hard to (?:tell|say))\b"
)
_AFFIRMATIONS = re.compile(
    r"\b(?:there (?:is|are)|it (?:is|does|has)|correct|true|yeah|yep|yup|indeed|certainly)\b"
)


def pope(text: str) -> YesNo:
    """POPE's rule: no when the first sentence has the token `No`, `no` or `not`, otherwise yes.

    The first sentence ends at the first full stop; commas are deleted and tokens are cut at single blanks.

    Args:
        text: The answer.

    Reference: arXiv:2305.10355, the authors' program.
    """
    tokens = text.split(".", 1)[0].replace(",", "").split(" ")
    return "no" if {"No", "no", "not"} & set(tokens) else "yes"


def repope(text: str) -> YesNo | None:
    """RePOPE's rule: yes when "yes" stands anywhere, else no when "no" does, else None and the answer is dropped.

    Args:
        text: The answer.

    Reference: arXiv:2504.15707, the authors' program.
    """
    lower = text.lower()
    return "yes" if "yes" in lower else "no" if "no" in lower else None


def lenient(text: str) -> YesNo | None:
    """What a person would read: the first word if it is yes or no, else what the first sentence says; None if unclear.

    Refusals and "I am not sure" are None, a sentence with both words is decided by the one it begins with, and a
    sentence with neither counts as no when it negates ("There is not a car"), as yes when it affirms ("There is one").

    Args:
        text: The answer.
    """
    lower = " ".join(text.lower().replace("’", "'").split())
    words = _WORDS.findall(lower)
    first = next((word for word in words[:1] if word in ("yes", "no", "nope", "yeah", "yep", "nah")), None)
    if first is not None:
        return "yes" if first in ("yes", "yeah", "yep") else "no"
    sentence = re.split(r"[.!?\n]", lower.lstrip(" .!?"), maxsplit=1)[0]
    if _UNSURE.search(sentence):
        return None
    found = {word for word in _WORDS.findall(sentence) if word in ("yes", "no")}
    if found == {"yes"}:
        return "yes"
    if _NEGATIONS.search(sentence):
        return "no" if found != {"yes", "no"} else None
    return "yes" if _AFFIRMATIONS.search(sentence) else None


def prefix(text: str) -> YesNo | None:
    """Yes or no when the answer begins with that word in any case, after blanks, quotes and asterisks; else None.

    Args:
        text: The answer.
    """
    found = re.match(r"[\s\"'`*_>(\[-]*(yes|no)\b", text, re.IGNORECASE)
    if found is None:
        return None
    return "yes" if found[1].lower() == "yes" else "no"


def is_clear(text: str) -> bool:
    """Whether the lenient rule reads an answer at all: what `unparsed` counts where the official rule reads anything.

    Args:
        text: The answer.
    """
    return lenient(text) is not None


def counts(said: YesNo | None, label: YesNo, positive: YesNo = "yes") -> Mapping[str, float]:
    """One answer as numbers to add up: `tp fp tn fn`, `said_yes`, `right`, `unread`.

    An unreadable answer to a positive question is a false negative; to a negative one it is neither fp nor tn: it is
    not right, yet nobody said yes.

    Args:
        said: What was read; None when nothing was.
        label: The truth.
        positive: The class that precision and recall are about; AMBER's is "no".
    """
    hit, true = said == positive, label == positive
    return {
        "tp": float(hit and true),
        "fp": float(hit and not true),
        "tn": float(said is not None and not hit and not true),
        "fn": float(not hit and true),
        "said_yes": float(said == "yes"),
        "right": float(said == label),
        "unread": float(said is None),
    }
