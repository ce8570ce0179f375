"""Find the objects that a text names, by a table of words: CHAIR's way of reading, for COCO or any other table."""

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from vlmtools.errors import BadInput
from vlmtools.scoring._coco_objects import PAIRS, SYNONYMS
from vlmtools.scoring._plurals import singular
from vlmtools.scoring._tokens import token_spans, tokens


@dataclass(frozen=True, slots=True)
class Mention:
    """One place where a text names an object.

    Args:
        word: The word as the official program reports it: lower case, singular, pairs joined ("wine glass").
        node: The object it stands for, one of the names of the table.
        index: The official `idx`: number of the first token. With "toilet" and "seat" in one text the official program
            loses count and reports an earlier token; so does this field, while `start` and `end` stay right.
        start: First character in the text as it was given.
        end: One past the last character, so `text[start:end]` is what was written.
    """

    word: str
    node: str
    index: int
    start: int
    end: int


class Found(NamedTuple):
    """A mention in tokens: the official index, and the first and one past the last token."""

    word: str
    node: str
    idx: int
    first: int
    stop: int


class _Unit(NamedTuple):
    word: str
    first: int
    stop: int


Phrases = Mapping[str, Sequence[tuple[tuple[str, ...], str]]]


@dataclass(frozen=True, eq=False)
class Lexicon:
    """Words and phrases, all in singular as the rules form it, and the object that each names.

    Args:
        objects: Word, or phrase with single blanks, → object.
        phrases: First word → (the words that must follow, what they are read as together), longest first.
        hides: (a, b): where the text has the word a, the word b names nothing. Neutral: ("", "").
    """

    objects: Mapping[str, str] = field(default_factory=dict)
    phrases: Phrases = field(default_factory=dict)
    hides: tuple[str, str] = ("", "")

    @classmethod
    def coco(cls) -> "Lexicon":
        """The official CHAIR table."""
        objects = {word: node for node, words in SYNONYMS.items() for word in words}
        pairs = [(tuple(pair.split()), word) for pair, word in PAIRS.items()]
        return cls(objects, _by_first_word(pairs), hides=("toilet", "seat"))

    @classmethod
    def of(cls, synonyms: Mapping[str, Collection[str]]) -> "Lexicon":
        """A table of one's own.

        Args:
            synonyms: Name of the object → further words or phrases that name it, in any case and number. The name
                itself counts too.

        Raises:
            BadInput: A word stands for two objects, or has no letters.
        """
        owner: dict[tuple[str, ...], str] = {}
        for node, names in synonyms.items():
            for key in (key for name in (node, *names) for key in _keys(name, node)):
                _claim(owner, key, node)
        phrases = [(key, " ".join(key)) for key in owner if len(key) > 1]
        return cls({" ".join(key): node for key, node in owner.items()}, _by_first_word(phrases))

    @cached_property
    def nodes(self) -> frozenset[str]:
        """Names of all objects."""
        return frozenset(self.objects.values())

    @cached_property
    def version(self) -> str:
        """A short hash of the table: two tables with the same hash find the same objects."""
        content = [sorted(self.objects.items()), sorted(self.phrases.items()), self.hides]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]

    @cached_property
    def _starts(self) -> frozenset[str]:
        return frozenset(self.objects) | frozenset(self.phrases)

    def found(self, text: str) -> list[Found]:
        """Everything `text` names, in order, repeats kept.

        Args:
            text: Any text, in any case.
        """
        return self._found(list(map(singular, tokens(text.lower()))))

    def named(self, text: str) -> frozenset[str]:
        """The objects `text` names, each once."""
        return frozenset(found.node for found in self.found(text))

    def mentions(self, text: str) -> tuple[Mention, ...]:
        """Everything `text` names, with its place in the text as given.

        Args:
            text: Any text, in any case.
        """
        lower = text.lower()
        parts = tokens(lower)
        found = self._found(list(map(singular, parts)))
        spans = token_spans(lower, parts) if found else []
        places = _Places(text, lower)
        return tuple(
            Mention(one.word, one.node, one.idx, *places.of(spans[one.first][0], spans[one.stop - 1][1]))
            for one in found
        )

    def _found(self, words: Sequence[str]) -> list[Found]:
        units = list(self._units(words))
        blocker, hidden = self.hides
        if hidden and {blocker, hidden} <= {unit.word for unit in units}:
            return self._found_without(hidden, units, len(words))
        return [
            Found(word, self.objects[word], first, first, stop)
            for word, first, stop in units
            if word in self.objects
        ]

    def _units(self, words: Sequence[str]) -> Iterator[_Unit]:
        """The words that may matter, phrases put together; a word inside a phrase starts nothing new."""
        free = 0
        for place, word in [(place, word) for place, word in enumerate(words) if word in self._starts]:
            if place >= free:
                unit = self._phrase(words, place) or _Unit(word, place, place + 1)
                free = unit.stop
                yield unit

    def _phrase(self, words: Sequence[str], place: int) -> _Unit | None:
        for rest, read_as in self.phrases.get(words[place], ()):
            stop = place + 1 + len(rest)
            if tuple(words[place + 1 : stop]) == rest:
                return _Unit(read_as, place, stop)
        return None

    def _found_without(self, hidden: str, units: Sequence[_Unit], n_words: int) -> list[Found]:
        """As the official program does it: it drops the hidden words, but goes on counting as if they were there."""
        inside = {place for unit in units for place in range(unit.first + 1, unit.stop)}
        starts = [place for place in range(n_words) if place not in inside]
        position = {place: number for number, place in enumerate(starts)}
        found, n_dropped = [], 0
        for word, first, stop in units:
            n_dropped += word == hidden
            if word in self.objects and word != hidden:
                found.append(
                    Found(word, self.objects[word], starts[position[first] - n_dropped], first, stop)
                )
        return found


class _Places:
    """Places in lower-cased text → places in the text as given; they differ after letters like İ, which grow."""

    def __init__(self, text: str, lower: str) -> None:
        self._origin = None
        if len(text) != len(lower):
            self._origin = [place for place, letter in enumerate(text) for _ in letter.lower()]

    def of(self, start: int, end: int) -> tuple[int, int]:
        if self._origin is None:
            return start, end
        return self._origin[start], self._origin[end - 1] + 1


def _by_first_word(phrases: Sequence[tuple[tuple[str, ...], str]]) -> Phrases:
    table: dict[str, list[tuple[tuple[str, ...], str]]] = {}
    for key, read_as in sorted(phrases, key=lambda phrase: -len(phrase[0])):
        table.setdefault(key[0], []).append((key[1:], read_as))
    return table


def _keys(name: str, node: str) -> set[tuple[str, ...]]:
    """What the rules make of the name in singular, as written, and so of its plural: of bus `bu`, of buses `bus`."""
    written = tuple(tokens(name.lower()))
    if not any(word[0].isalnum() for word in written):
        raise BadInput(
            f"The object {node!r} has the name {name!r}, which has no word in it. "
            "Names are words or short phrases. Take it out of the vocabulary."
        )
    return {written, tuple(map(singular, written))}


def _claim(owner: dict[tuple[str, ...], str], key: tuple[str, ...], node: str) -> None:
    if owner.setdefault(key, node) != node:
        raise BadInput(
            f"The vocabulary gives {' '.join(key)!r} to {node!r} and to {owner[key]!r}. "
            "A word can name one object only. Take it from one of them."
        )
