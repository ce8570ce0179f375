"""What a judge is: how far a passage of evidence, or the picture itself, supports each claim of an answer."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from vlmtools.types import Json, Sample

Unit = Literal["sentence", "object"]


@dataclass(frozen=True, slots=True)
class Claim:
    """One thing an answer says.

    Args:
        text: What is judged: the sentence, or the name of the object.
        start: First character of the claim in the answer.
        end: One past its last character, so `answer[start:end]` is what was written.
    """

    text: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Question:
    """All claims of one answer against one passage of evidence (or against the media alone).

    Args:
        claims: The claims, in the order of the answer; never empty.
        evidence: What another model (or the reference) said about the same item; None for judges that look at the
            media instead.
        sample: The item, with its media.
    """

    claims: tuple[str, ...]
    evidence: str | None
    sample: Sample


@dataclass(frozen=True, slots=True)
class Vote:
    """The verdict on one claim.

    Args:
        support: 1 supported, 0 not supported, .5 undecided or unparseable; any value in [0, 1].
        parsed: False when the judge's reply could not be read, and `support` is the neutral .5.
        raw: What the judge wrote, when it wrote anything.
    """

    support: float
    parsed: bool = True
    raw: str = ""


class Judge(ABC):
    """How far evidence supports a claim, 0 to 1, in batches.

    A subclass is a dataclass with every field defaulted; the file's name is its name on the command line.
    """

    unit: ClassVar[Unit] = "sentence"
    """What answers are split into for this judge, unless the user asks otherwise."""
    looks_at: ClassVar[Literal["evidence", "media"]] = "evidence"
    """`media` judges are shown the picture and the claim, never another model's words (CrossCheck-implicit)."""

    @property
    def name(self) -> str:
        """File name of the judge: its name in tables and on the command line."""
        return type(self).__module__.rpartition(".")[2]

    @property
    def costs(self) -> bool:
        """Whether verdicts come from a `responder`: calls that budgets count and `--offline` forbids."""
        return hasattr(self, "responder")

    @abstractmethod
    def identity(self) -> Mapping[str, Json]:
        """What decides the verdict apart from the question: name, model, revision, template, thresholds, version."""

    @abstractmethod
    def judge(self, questions: Sequence[Question]) -> Iterator[tuple[int, tuple[Vote, ...]]]:
        """Yield (index of the question, one vote per claim) for every question, in any order.

        Args:
            questions: Any number; the judge batches them as it likes and yields early so that results can be stored.

        Raises:
            ResponderError: The model behind the judge is not to be reached; what was yielded before stays valid.
        """

    def close(self) -> None:
        """Free memory and connections; may be called twice."""
