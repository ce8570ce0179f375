"""FaithScore: the share of atomic facts in an answer that the picture supports.

Traps worth knowing before numbers are compared:

* The published number is the mean over answers (macro), and an answer without any fact counts 0. `macro` leaves such
  answers out, `official` counts them; `micro` is over all facts. On the human annotation the three differ.
* The annotation's README says that the label 1 means hallucinated. The values only make sense the other way round
  (81 % of the facts are 1, and sentences rightly copied from the picture carry it), so 1 is read as supported here.
  The authors have not confirmed either reading.
* Facts are written and checked by models: gpt-3.5 in the paper, and OFA or LLaVA-1.5. Any "yes" in the checker's reply
  counts as support, "eyes" included.

Reference: arXiv:2311.01477, eq. 1 and 2; the official `framework.py`.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from vlmtools.errors import BadInput

KINDS = ("Entities", "Relations", "Colors", "Counting", "Other attributes")
"""The five kinds of atomic facts, as the official reply to the second stage heads its lines."""


@dataclass(frozen=True, slots=True)
class FaithScore:
    """FaithScore of one model; all in [0, 1].

    Args:
        official: Mean over all answers; one without facts counts 0.
        macro: Mean over answers that have facts.
        micro: Supported facts / facts.
        n_answers: Answers.
        n_without_facts: Answers that have none.
        n_facts: Facts.
    """

    official: float = 0.0
    macro: float = 0.0
    micro: float = 0.0
    n_answers: int = 0
    n_without_facts: int = 0
    n_facts: int = 0


def score(answers: Iterable[Sequence[bool]]) -> FaithScore:
    """The score of many answers.

    Args:
        answers: For each answer, whether each of its facts is supported.

    Raises:
        BadInput: There are no answers.
    """
    each = [list(facts) for facts in answers]
    if not each:
        raise BadInput("There are no answers to score. FaithScore needs the checked facts of at least one.")
    shares = [sum(facts) / len(facts) for facts in each if facts]
    flat = [fact for facts in each for fact in facts]
    return FaithScore(
        official=sum(shares) / len(each),
        macro=sum(shares) / len(shares) if shares else 0.0,
        micro=sum(flat) / len(flat) if flat else 0.0,
        n_answers=len(each),
        n_without_facts=len(each) - len(shares),
        n_facts=len(flat),
    )


def facts_of(reply: str) -> dict[str, tuple[str, ...]]:
    """The facts in a reply to the second stage, by kind, read as the official program reads them.

    Args:
        reply: Lines such as `Colors: The dog is brown. The cat is white.`
    """
    if "Entities" not in reply:
        return dict.fromkeys(KINDS, ())
    found: dict[str, tuple[str, ...]] = dict.fromkeys(KINDS, ())
    for line in reply.split("\n"):
        for kind in KINDS:
            if line.startswith(f"{kind}:") and line.strip() != f"{kind}:":
                found[kind] = tuple(line.strip().replace(f"{kind}: ", "").split(". "))
    return found


def check_prompt(fact: str) -> str:
    """What the official program asks the checker about one fact, to the letter.

    Args:
        fact: One atomic fact.
    """
    return f"Statement: {fact} Is this statement is right according to the image? Please answer yes or no."


def read_check(reply: str | None, rule: str = "official") -> bool | None:
    """Whether the checker supports the fact; None when it says neither.

    Args:
        reply: What the checker wrote; None when the call failed.
        rule: `official` looks for "yes" anywhere and takes all else for no; `lenient` wants the word yes or no.
    """
    lower = (reply or "").lower()
    if rule == "official":
        return "yes" in lower
    words = set(re.findall(r"[a-z]+", lower)) & {"yes", "no"}
    return "yes" in words if len(words) == 1 else None


def labels(annotation: Mapping[str, int], supported: int = 1) -> tuple[bool, ...]:
    """The labels of an answer's facts as the human annotation stores them.

    Args:
        annotation: Fact → 0 or 1 (the field `stage 2`).
        supported: Which of the two means supported: 1 as the values say, 0 as the README says.
    """
    return tuple(int(label) == supported for label in annotation.values())
