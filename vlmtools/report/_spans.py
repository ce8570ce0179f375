"""An answer cut where its claims begin and end, so that each piece can be coloured."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from vlmtools.crosscheck.ranking import WorstClaim


@dataclass(frozen=True)
class Piece:
    """A part of an answer that belongs to the same claims throughout.

    Args:
        text: As written.
        score: Hallucination score of the worst claim it belongs to; None outside any claim.
        worst: It is part of the claim the card is about.
        closes: That claim ends here, so its score can be written behind it.
    """

    text: str
    score: float | None = None
    worst: bool = False
    closes: bool = False

    @property
    def grade(self) -> int:
        """0 (supported) to 4 (not supported): the shade."""
        return 0 if self.score is None or self.score != self.score else min(4, max(0, int(self.score * 5)))


def pieces(claim: WorstClaim) -> tuple[Piece, ...]:
    """The whole answer in order; the texts joined are the answer again.

    Args:
        claim: Spans may overlap, be out of order or reach beyond the answer.
    """
    length = len(claim.answer)
    marked = [*claim.spans, (claim.start, claim.end, claim.score)]
    spans = [(max(0, start), min(length, end), score) for start, end, score in marked if start < end]
    cuts = sorted({0, length, *(at for start, end, _ in spans if start < end for at in (start, end))})
    return tuple(_piece(claim, spans, low, high) for low, high in pairwise(cuts))


def _piece(claim: WorstClaim, spans: Sequence[tuple[int, int, float]], low: int, high: int) -> Piece:
    over = [(score, end) for start, end, score in spans if start <= low and high <= end]
    text = claim.answer[low:high]
    if not over:
        return Piece(text)
    score, end = max(over, key=lambda one: (one[0], -one[1]))
    return Piece(text, score, worst=claim.start <= low and high <= claim.end, closes=end == high)
