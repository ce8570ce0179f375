"""AMBER's tables as the official program prints them: in percent, one digit, denominators from .001.

Reference: the official `inference.py` of arXiv:2311.07397.
"""

from collections.abc import Mapping, Sequence

from vlmtools.scoring._amber_questions import PARTS, START, Part

_RATES = {"chair": ("wrong", "nouns"), "cover": ("covered", "truth"), "cog": ("lured", "lures")}
_COUNTS = ("asked", "right", "no", "said_no", "no_right")


def printed_table(sums: Mapping[str, float]) -> dict[str, float]:
    """Every number the program prints, by name; those of a part as `name/part`.

    Args:
        sums: Over all answers: wrong, nouns, covered, truth, lured, lures, clean and described of descriptions; asked,
            right, no, said_no and no_right of questions, each as `name/kind`.
    """
    found = _descriptions(sums) if "described" in sums else {}
    kinds = tuple(kind for kind in PARTS if f"asked/{kind}" in sums)
    parts = {part: wanted for part, wanted in PARTS.items() if set(wanted) <= set(kinds) and len(kinds) > 1}
    for end, wanted in {"": kinds, **{f"/{part}": wanted for part, wanted in parts.items()}}.items():
        if wanted:
            found |= {f"{name}{end}": value for name, value in _questions(sums, wanted).printed.items()}
    return found


def _descriptions(sums: Mapping[str, float]) -> dict[str, float]:
    shown = {name: 100 * sums[part] / (sums[whole] + START) for name, (part, whole) in _RATES.items()}
    shown["hal"] = 100 - 100 * sums["clean"] / (sums["described"] + START)
    return {name: round(value, 1) for name, value in shown.items()}


def _questions(sums: Mapping[str, float], kinds: Sequence[str]) -> Part:
    n, right, no, said_no, hit = (
        round(sum(sums.get(f"{name}/{kind}", 0.0) for kind in kinds)) for name in _COUNTS
    )
    return Part(n, right, no, said_no, hit, added=0.001 if tuple(kinds) == ("existence",) else 0.0001)
