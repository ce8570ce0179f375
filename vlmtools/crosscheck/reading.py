"""From stored answers and votes to books and pages."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vlmtools.crosscheck.asking import Calls, listed, read_back
from vlmtools.crosscheck.book import Book
from vlmtools.crosscheck.compared import Compared, Part
from vlmtools.crosscheck.judges.base import Claim, Judge
from vlmtools.crosscheck.pages import Pages, Table
from vlmtools.crosscheck.voting import REFERENCE, Splitter, Votes
from vlmtools.store import Store


@dataclass
class Reading:
    """The compared items with the votes on them.

    Args:
        compared: Answers and claims.
        calls: What makes the votes of each stage.
        store: Where the votes are.
        reference: Whether trusted answers vote, instead of the models.
        panel: Models that judge each other about an item; 0 is everybody.
        seed: Of the deal.
        n_passages: Passages of evidence per answer.
        missing: Votes that were wanted and are not stored.
    """

    compared: Compared
    calls: Sequence[Calls]
    store: Store
    reference: bool = False
    panel: int = 0
    seed: int = 0
    n_passages: int = 1
    missing: int = 0

    def book(self, part: Part) -> Book:
        """Claims and votes of some items.

        Args:
            part: The items.
        """
        votes = Votes()
        self.missing += read_back(self.store, listed(self.calls, part), votes)
        evidence = (REFERENCE,) if self.reference else self.compared.models
        return Book(
            part.items,
            self.compared.models,
            evidence,
            part.subjects,
            votes,
            panel=self.panel,
            seed=self.seed,
        )

    def pages(self, table: Table, told: Callable[[int], None]) -> Pages:
        """Claims and votes of all items.

        Args:
            table: Whether claims are wanted as a table.
            told: Told how many items have been read.
        """
        pages = Pages(self.compared.models, (REFERENCE,) if self.reference else self.compared.models, table)
        self.missing = 0
        for part in self.compared.parts(self.n_passages):
            pages.append(self.book(part))
            told(pages.n_items)
        return pages


def splitter(judge: Judge, unit: str, min_tokens: int = 0) -> Splitter:
    """What splits answers into claims.

    Args:
        judge: May have a way of its own to find objects.
        unit: `object` or `sentence`.
        min_tokens: Sentences with fewer words are dropped.
    """
    if unit == "object":
        own: Splitter | None = getattr(judge, "split", None)
        if own is not None:
            return own
        from vlmtools.crosscheck.judges.objects import Objects

        return Objects().split
    from vlmtools.crosscheck.claims import sentences

    def by_sentence(text: str) -> tuple[Claim, ...]:
        return sentences(text, min_tokens=min_tokens)

    return by_sentence
