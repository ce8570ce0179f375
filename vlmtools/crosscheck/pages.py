"""All claims and votes of a run as arrays, a part of the items to a page; many pages lie in a file."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal, Self

import numpy as np

from vlmtools.crosscheck.arrays import VoteArrays
from vlmtools.crosscheck.book import Book, ClaimRows
from vlmtools.crosscheck.shelf import Arrays, Shelf
from vlmtools.crosscheck.table import ClaimTable

Table = Literal["none", "shared", "apart"]
"""Whether claims are also wanted as a table, and whether equal claims of several models are one row there."""


@dataclass
class Totals:
    """What one model said, counted.

    Args:
        n_items: Answers.
        n_claims: Claims.
        n_words: Words.
        kinds: The kinds of input the model received.
        unparsed: Votes on its claims that could not be read.
        n_votes: Votes on its claims.
    """

    n_items: int = 0
    n_claims: int = 0
    n_words: int = 0
    kinds: set[str] = field(default_factory=set)
    unparsed: int = 0
    n_votes: int = 0


@dataclass(frozen=True)
class Page:
    """The claims and votes of some items.

    Args:
        first: Place of the first item.
        votes: Inconsistency summed per item.
        table: The claims as rows; None when it was not wanted.
        claims: Every claim of every answer.
    """

    first: int
    votes: VoteArrays
    table: ClaimTable | None
    claims: ClaimRows


class Pages:
    """Pages to append to and to go through.

    Args:
        targets: Models that are scored.
        evidence: Models, or the reference, that vote.
        table: Whether claims are wanted as a table.
        shelf: Where the arrays are kept.
    """

    def __init__(
        self,
        targets: tuple[str, ...],
        evidence: tuple[str, ...],
        table: Table = "none",
        shelf: Shelf | None = None,
    ) -> None:
        self.targets, self.evidence, self.table = targets, evidence, table
        self.totals = {name: Totals() for name in targets}
        self.n_items = 0
        self.told: Callable[[int], None] | None = None
        """Told how many items have been gone through since it was set, over all passes."""
        self._n_read = 0
        self._shelf = shelf if shelf is not None else Shelf()

    @classmethod
    def of(cls, books: Iterable[Book], table: Table = "none") -> Self:
        """The pages of some books, at least one, about the same models.

        Args:
            books: In run order.
            table: Whether claims are wanted as a table.
        """
        pages: Self | None = None
        for book in books:
            if pages is None:
                pages = cls(book.targets, book.evidence, table)
            pages.append(book)
        if pages is None:
            raise ValueError("there are no books")
        return pages

    def append(self, book: Book) -> None:
        """Take in the next items.

        Args:
            book: Their claims and votes.
        """
        table, row = (None, None) if self.table == "none" else book.table(self.table == "shared")
        self._shelf.append(_arrays(book.arrays(), table, book.rows(row)))
        self.n_items += len(book.items)
        for name in self.targets:
            _count(self.totals[name], book, name)

    def __iter__(self) -> Iterator[Page]:
        """All pages in order."""
        first = 0
        for arrays in self._shelf:
            page = self._page(first, arrays)
            yield page
            first += page.votes.n_items
            if self.told is not None:
                self._n_read += page.votes.n_items
                self.told(self._n_read)

    def parts(self) -> Iterator[tuple[int, VoteArrays]]:
        """The votes, page by page."""
        return ((page.first, page.votes) for page in self)

    @property
    def claims(self) -> "ClaimPages":
        """The claim tables, page by page."""
        return ClaimPages(self)

    def _page(self, first: int, arrays: Arrays) -> Page:
        votes = VoteArrays(self.targets, self.evidence, arrays["total"], arrays["count"])
        table = None
        if "kind" in arrays:
            names = ("item", "kind", "mentions", "support")
            item, kind, mentions, support = (arrays[name] for name in names)
            table = ClaimTable(self.targets, votes.n_items, item, kind, (), mentions, support)
        claims = {name.removeprefix("claim_"): a for name, a in arrays.items() if name.startswith("claim_")}
        return Page(first, votes, table, ClaimRows(**claims))


@dataclass(frozen=True)
class ClaimPages:
    """The claim tables of pages.

    Args:
        pages: The pages.
    """

    pages: Pages

    @property
    def models(self) -> tuple[str, ...]:
        """Names, in the order of the model axes."""
        return self.pages.targets

    @property
    def n_items(self) -> int:
        """Number of items."""
        return self.pages.n_items

    def parts(self) -> Iterator[tuple[int, ClaimTable]]:
        """The tables, page by page."""
        return ((page.first, page.table) for page in self.pages if page.table is not None)


def _arrays(votes: VoteArrays, table: ClaimTable | None, claims: ClaimRows) -> dict[str, np.ndarray]:
    found = {"total": votes.total, "count": votes.count}
    if table is not None:
        found |= {
            "item": table.item,
            "kind": table.kind,
            "mentions": table.mentions,
            "support": table.support,
        }
    return found | {f"claim_{name}": value for name, value in vars(claims).items()}


def _count(totals: Totals, book: Book, name: str) -> None:
    subject = book.subjects[name]
    answered = [subject.stored[item] for item in book.items if item in subject.stored]
    totals.n_items += len(answered)
    totals.n_claims += sum(len(subject.claims[item]) for item in book.items if item in subject.claims)
    totals.n_words += sum(len(stored.answers.text.split()) for stored in answered)
    totals.kinds.update(kind for stored in answered for kind in stored.answers.modality)
    unparsed, n_votes = book.votes.unparsed.get(name, (0, 0))
    totals.unparsed += unparsed
    totals.n_votes += n_votes
