"""MME: two yes/no questions per picture, scored as accuracy plus the share of pictures with both right.

Traps worth knowing before numbers are compared:

* An answer is looked at in lower case, and only its first four characters: "yes" anywhere in them wins, else "no", so
  "I know…" is other and " no," is no. "other" is wrong.
* A task's score is 100 × (accuracy + accuracy+), at most 200; the totals are sums over tasks, at most 2,000 for
  perception and 800 for cognition. The four tasks existence, count, position and color, at most 800, are what papers
  on hallucination call the MME hallucination subset.
* Officially a picture is two neighbouring lines of a file; here the two rows carry its name.

Reference: arXiv:2306.13394, section 2.2; the official `calculation.py`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from vlmtools.errors import BadInput, UnknownName, suggest
from vlmtools.scoring.yes_no import YesNo
from vlmtools.scoring.yes_no import lenient as read_lenient

HALLUCINATION = ("existence", "count", "position", "color")
"""The hallucination subset: object level (first two) and attribute level (last two)."""
PERCEPTION = (*HALLUCINATION, "posters", "celebrity", "scene", "landmark", "artwork", "OCR")
COGNITION = ("commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning")

Group = Literal["hallucination", "perception", "cognition"]
GROUPS: Mapping[Group, tuple[str, ...]] = {
    "hallucination": HALLUCINATION, "perception": PERCEPTION, "cognition": COGNITION,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Answered:
    """One question with what was read out of its answer.

    Args:
        task: One of the 14 tasks.
        image: The picture; two questions share it.
        truth: The right answer.
        said: What was read; None when neither was found.
    """

    task: str = "existence"
    image: str = ""
    truth: YesNo = "yes"
    said: YesNo | None = None


@dataclass(frozen=True, slots=True)
class TaskScore:
    """One task.

    Args:
        accuracy: Right answers / questions, in [0, 1].
        accuracy_plus: Pictures with both answers right / pictures, in [0, 1].
        n: Questions.
        n_images: Pictures.
        n_unread: Answers that were neither yes nor no; they are wrong.
    """

    accuracy: float = 0.0
    accuracy_plus: float = 0.0
    n: int = 0
    n_images: int = 0
    n_unread: int = 0

    @property
    def points(self) -> float:
        """The official score, 0 to 200."""
        return self.accuracy * 100 + self.accuracy_plus * 100


@dataclass(frozen=True, slots=True)
class MmeScore:
    """MME of one model.

    Args:
        tasks: Task → its score; only tasks that were answered.
        points: Group → sum of its tasks' points; only groups all of whose tasks were answered.
        n_unread: Answers that were neither yes nor no.
    """

    tasks: Mapping[str, TaskScore] = field(default_factory=dict)
    points: Mapping[str, float] = field(default_factory=dict)
    n_unread: int = 0


def read(answer: str, rule: str = "official") -> YesNo | None:
    """Yes, no, or None for the official "other".

    Args:
        answer: As the model wrote it.
        rule: `official` looks at the first four characters; `lenient` reads what a person would.

    Raises:
        UnknownName: No such rule.
    """
    if rule == "lenient":
        return read_lenient(answer)
    if rule != "official":
        raise UnknownName(f"MME has no rule {rule!r}.{suggest(rule, ('official', 'lenient'))}")
    start = answer.lower()[:4]
    return "yes" if "yes" in start else "no" if "no" in start else None


def score(answers: Iterable[Answered]) -> MmeScore:
    """The score of each task and the sums the papers print.

    Args:
        answers: All questions of the tasks to score, in any order.

    Raises:
        BadInput: A picture of a task has not exactly two questions.
        UnknownName: No such task.
    """
    by_task: dict[str, dict[str, list[Answered]]] = {}
    for one in answers:
        by_task.setdefault(one.task, {}).setdefault(one.image, []).append(one)
    _check(by_task)
    tasks = {task: _task(list(images.values())) for task, images in by_task.items()}
    points: dict[str, float] = {
        group: sum(tasks[task].points for task in names)
        for group, names in GROUPS.items()
        if all(task in tasks for task in names)
    }
    return MmeScore(tasks, points, sum(task.n_unread for task in tasks.values()))


def _task(images: list[list[Answered]]) -> TaskScore:
    right = [[one.said == one.truth for one in image] for image in images]
    flat = [one for image in right for one in image]
    return TaskScore(
        accuracy=sum(flat) / len(flat),
        accuracy_plus=sum(all(image) for image in right) / len(right),
        n=len(flat),
        n_images=len(images),
        n_unread=sum(one.said is None for image in images for one in image),
    )


def _check(by_task: Mapping[str, Mapping[str, list[Answered]]]) -> None:
    known = (*PERCEPTION, *COGNITION)
    for task, images in by_task.items():
        if task not in known:
            raise UnknownName(f"MME has no task {task!r}.{suggest(task, known)}")
        for image, rows in images.items():
            if len(rows) != 2:
                raise BadInput(
                    f"The picture {image!r} of MME's task {task!r} has {len(rows)} answered questions. Every picture "
                    "has two, and accuracy+ needs both. Answer the missing one, or take the picture out."
                )
