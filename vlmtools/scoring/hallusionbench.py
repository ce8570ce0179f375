"""HallusionBench: is the model right about a figure, about its edited twin, and without any figure.

Traps worth knowing before numbers are compared:

* Every answer is right (1), wrong (0) or uncertain (2). Officially GPT-4 decides (`judge_prompt`, `read_judge`);
  without a judge `read` takes the leading yes or no, and anything else is uncertain.
* Uncertain counts as right where a VS question is asked without its figure, and as wrong everywhere else.
* fAcc leaves out VS questions without a figure; qAcc and the easy and hard accuracies do not. The official "easy" and
  "hard" accuracies are over question pairs of that half, although the published tables call them question accuracies.
* Whether an error is blamed on language or on sight depends on a second judge, which says whether two answers agree.
* Some toolkits leave out the 178 questions without a figure: their aAcc is over 951 questions.

Reference: arXiv:2310.14566, section 4; the official `utils.py` and `evaluation.py`.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from vlmtools.errors import BadInput
from vlmtools.scoring._hallusionbench_blame import Judged, Verdict, blame, blamed
from vlmtools.scoring.yes_no import lenient, prefix

__all__ = [
    "Accuracies", "HallusionScore", "Judged", "Verdict", "accuracies", "blamed", "judge_prompt", "read", "read_judge",
    "read_same", "same_prompt", "score",
]  # fmt: skip

_TASK = (
    "Imagine you are an intelligent teacher. Thoroughly read the question, reference answer and the prediction answer "
    "to ensure a clear understanding of the information provided. Assess the correctness of the predictions. If the "
    "prediction answer does not conflict with the reference answer, please generate “correct”. If the prediction "
    "answer conflict with the reference answer, please generate “incorrect”. If the prediction answer is unclear about "
    'the answer, please generate "unclear". \n\n Question:'
)
_SAME_TASK = (
    "Imagine you are an intelligent teacher. Thoroughly read the two responses to two different questions. Assess the "
    "consistency of the information provided within those two responses. You do not know the specific questions, but "
    "you can asssess the consistency among the two responses by checking for logical conflicts if both responses are "
    'correct. If response1 does not conflict with response2, please generate “same”. Otherwise, generate "different". '
    "\n\n response1:"
)


@dataclass(frozen=True, slots=True)
class Accuracies:
    """Shares of right answers, in [0, 1].

    Args:
        a_acc: Of questions.
        f_acc: Of figures with all questions right.
        q_acc: Of question pairs with all figures right.
        easy: The same of pairs, edited figures left out.
        hard: The same of pairs, edited figures only.
        consistency: (all right, some right, none right) shares of figures.
        figure_score: Mean over figures of the share of right answers.
        n: Questions.
        n_figures: Figures.
        n_pairs: Question pairs.
    """

    a_acc: float = 0.0
    f_acc: float = 0.0
    q_acc: float = 0.0
    easy: float = 0.0
    hard: float = 0.0
    consistency: tuple[float, float, float] = (0.0, 0.0, 0.0)
    figure_score: float = 0.0
    n: int = 0
    n_figures: int = 0
    n_pairs: int = 0


@dataclass(frozen=True, slots=True)
class HallusionScore:
    """HallusionBench of one model.

    Args:
        all: Over all questions.
        vd: Over those that need the figure.
        vs: Over those that do not.
        yes_difference: Share of answers counted as yes − share of questions whose answer is yes; 0 is unbiased.
        false_positive_ratio: Of the wrong answers, the share whose truth is no; .5 is unbiased, None without any.
        blame: Share of errors put down to `language`, `sight` or `both`; empty without errors.
        n_uncertain: Verdicts of "uncertain".
    """

    all: Accuracies = Accuracies()
    vd: Accuracies = Accuracies()
    vs: Accuracies = Accuracies()
    yes_difference: float = 0.0
    false_positive_ratio: float | None = None
    blame: Mapping[str, float] = field(default_factory=dict)
    n_uncertain: int = 0


def read(answer: str, truth: bool, rule: str = "prefix") -> Verdict:
    """The verdict without a judge.

    Args:
        answer: As the model wrote it.
        truth: Whether the right answer is yes.
        rule: `prefix` takes a leading yes or no; `lenient` what a person would read.
    """
    said = lenient(answer) if rule == "lenient" else prefix(answer)
    return 2 if said is None else 1 if (said == "yes") == truth else 0


def judge_prompt(question: str, reference: str, answer: str) -> str:
    """What the official program asks GPT-4 about one answer, to the letter.

    Args:
        question: The question.
        reference: Its `gt_answer_details`.
        answer: As the model wrote it.
    """
    return f"{_TASK}{question}\nReference answer: {reference}\nPrediction answer:{answer}\nOutput:"


def read_judge(reply: str) -> Verdict:
    """The official reading of the reply to `judge_prompt`: "incorrect" wins over "correct", neither is uncertain.

    Args:
        reply: What the judge wrote.
    """
    lower = reply.lower()
    return 0 if "incorrect" in lower else 1 if "correct" in lower else 2


def same_prompt(answer: str, original: str) -> str:
    """What the official program asks GPT-4 about two answers, to the letter.

    Args:
        answer: The answer on this figure.
        original: The answer to the same question on the original figure.
    """
    return f"{_SAME_TASK}{answer}\nresponse2: {original}\nOutput:"


def read_same(reply: str) -> bool:
    """The official reading of the reply to `same_prompt`.

    Args:
        reply: What the judge wrote.
    """
    return "same" in reply.lower()


def score(questions: Iterable[Judged]) -> HallusionScore:
    """All official numbers, in any order of the questions.

    Args:
        questions: Every question with the verdict on its answer.

    Raises:
        BadInput: There are none, a question comes twice, or a VS question on an edited figure lacks its original.
    """
    rows = list(questions)
    _check(rows)
    wrong = [row for row in rows if not row.right]
    counted_yes = sum(row.right == row.truth for row in rows) / len(rows)
    return HallusionScore(
        all=accuracies(rows),
        vd=accuracies([row for row in rows if row.category == "VD"]),
        vs=accuracies([row for row in rows if row.category == "VS"]),
        yes_difference=counted_yes - sum(row.truth for row in rows) / len(rows),
        false_positive_ratio=sum(not row.truth for row in wrong) / len(wrong) if wrong else None,
        blame=blame(rows),
        n_uncertain=sum(row.verdict == 2 for row in rows),
    )


def accuracies(rows: Sequence[Judged]) -> Accuracies:
    """The accuracies over some questions; 0 where there are none.

    Args:
        rows: Questions with verdicts.
    """
    figures = _shares([row for row in rows if row.figure is not None], lambda row: row.figure)
    pairs = _shares(rows, lambda row: row.pair)
    return Accuracies(
        a_acc=_mean([row.right for row in rows]),
        f_acc=_mean([share == 1 for share in figures]),
        q_acc=_mean([share == 1 for share in pairs]),
        easy=_mean([share == 1 for share in _shares([r for r in rows if not r.hard], lambda row: row.pair)]),
        hard=_mean([share == 1 for share in _shares([r for r in rows if r.hard], lambda row: row.pair)]),
        consistency=(
            _mean([share == 1 for share in figures]),
            _mean([0 < share < 1 for share in figures]),
            _mean([share == 0 for share in figures]),
        ),
        figure_score=_mean(figures),
        n=len(rows),
        n_figures=len(figures),
        n_pairs=len(pairs),
    )


def _shares(rows: Sequence[Judged], key: Callable[[Judged], object]) -> list[float]:
    groups: dict[object, list[bool]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row.right)
    return [sum(group) / len(group) for group in groups.values()]


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else 0.0


def _check(rows: Sequence[Judged]) -> None:
    if not rows:
        raise BadInput("There are no answers to score. HallusionBench has 1,129 questions; give all of them.")
    first = {row.pair for row in rows if row.figure_id == "0"}
    seen: set[tuple[str, ...]] = set()
    for row in rows:
        name = (*row.pair, row.figure_id)
        if name in seen or row.pair not in first:
            what = "comes twice" if name in seen else "has no answer on its original figure (figure_id 0)"
            raise BadInput(
                f"The question {'_'.join(name)} (category, subcategory, set, question, figure) {what}. The official "
                "numbers need each question once, originals included. Score the whole file."
            )
        seen.add(name)
