"""What one model said, item by item: kept in the run folder, read when it is looked at."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from vlmtools.store import Store
from vlmtools.store.spool import Spool
from vlmtools.types import Answers, Json


@dataclass(frozen=True)
class Stored:
    """One model's stored answers to one item, with the keys they are stored under.

    Args:
        answers: What was said.
        keys: Key of draw 0, then of every sample.
    """

    answers: Answers
    keys: tuple[str, ...]

    @property
    def evidence(self) -> list[tuple[int, str, str]]:
        """(draw, key, passage) of everything that speaks for the model."""
        if not self.answers.samples:
            return [(0, self.keys[0], self.answers.text)]
        pairs = zip(self.keys[1:], self.answers.samples, strict=True)
        return [(draw, key, text) for draw, (key, text) in enumerate(pairs, start=1)]


ByItem = Mapping[str, Stored]
"""One model's stored answers by item."""


class Told(ByItem):
    """One model's stored answers, read from the run folder whenever one is looked at.

    Args:
        store: The run folder, which stays open.
        model: Who answered.
    """

    def __init__(self, store: Store, model: str) -> None:
        self._store, self._model = store, model
        self._keys: Spool[list[str]] = Spool(list, _as_list)
        self.kinds: set[str] = set()

    def add(self, item: str, keys: Sequence[str]) -> None:
        """Take in an item's answers; nothing without a scored one, and a sample that failed leaves the others in place.

        Args:
            item: The item.
            keys: Key of the scored answer, then of every sample, stored or not.
        """
        first = self._store.get("answers", keys[0])
        if first is not None:
            self.kinds.update(first.get("modality", ()))
            stored = [key for key in keys[1:] if self._store.has("answers", key)]
            self._keys[item] = [keys[0], *stored]

    def __getitem__(self, item: str) -> Stored:
        """The answers to an item.

        Raises:
            KeyError: There are none.
        """
        keys = self._keys[item]
        records = [self._store.get("answers", key) for key in keys]
        first, *others = [{} if record is None else record for record in records]
        texts, kinds = tuple(one["text"] for one in others), tuple(first.get("modality", ()))
        return Stored(Answers(item, self._model, first["text"], texts, kinds), tuple(keys))

    def __contains__(self, item: object) -> bool:
        """Whether the item has a scored answer."""
        return item in self._keys

    def __iter__(self) -> Iterator[str]:
        """The items with a scored answer, in the order of the run."""
        return iter(self._keys)

    def __len__(self) -> int:
        """How many items have a scored answer."""
        return len(self._keys)


def _as_list(key: str, value: Json) -> list[str]:
    return list(value)
