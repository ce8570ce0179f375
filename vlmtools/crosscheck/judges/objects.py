"""Does the evidence name the object too? No model, no download, exact and very fast."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import ClassVar

from vlmtools.crosscheck.judges.base import Claim, Judge, Question, Unit, Vote
from vlmtools.errors import BadInput, UnknownName, suggest
from vlmtools.scoring.chair import COCO, Lexicon
from vlmtools.types import Json

_YES, _NO = Vote(1.0), Vote(0.0)


@dataclass(frozen=True)
class Objects(Judge):
    """An object is supported when the evidence names it, by any of its words.

    Claims are objects, found as CHAIR finds them: every mention is a claim, repeats count, "a puppy" and "dogs" both
    claim a dog. Negation ("there is no dog") is invisible to it, and so is everything outside the vocabulary.

    Args:
        vocabulary: Path of a JSON file `{"object": ["word", "short phrase", ...]}` for pictures beyond COCO. Words may
            be in any case, singular or plural; the name of the object counts by itself. Neutral: None, the 80 COCO
            objects with the official CHAIR words.

    Raises:
        BadInput: At first use, when the vocabulary cannot be read.

    Reference: arXiv:1809.02156, section 3 (the words); arXiv:2405.13684 (evidence of other models).
    """

    vocabulary: str | None = None

    unit: ClassVar[Unit] = "object"

    @cached_property
    def _lexicon(self) -> Lexicon:
        return COCO if self.vocabulary is None else _read(Path(self.vocabulary))

    def identity(self) -> Mapping[str, Json]:
        """Name, version of the rules, and a hash of the words (not of the path they were read from)."""
        return {"judge": self.name, "version": 1, "vocabulary": self._lexicon.version}

    def split(self, text: str) -> tuple[Claim, ...]:
        """One claim per mention of an object, in order, repeats kept; `claim.text` is the name of the object.

        Args:
            text: The answer. An answer that names no object has no claims.
        """
        return tuple(Claim(found.node, found.start, found.end) for found in self._lexicon.mentions(text))

    def judge(self, questions: Sequence[Question]) -> Iterator[tuple[int, tuple[Vote, ...]]]:
        """Yield the votes question by question, in order.

        Raises:
            UnknownName: A claim is not the name of an object.
        """
        lexicon = self._lexicon
        for index, question in enumerate(questions):
            if not lexicon.nodes.issuperset(question.claims):
                raise _not_an_object(question.claims, lexicon)
            named = _named(lexicon, question.evidence or "")
            yield index, tuple([_YES if claim in named else _NO for claim in question.claims])


@lru_cache(1 << 13)
def _named(lexicon: Lexicon, text: str) -> frozenset[str]:
    """Kept, because each passage is asked about once for every answer it is evidence for."""
    return lexicon.named(text)


def _not_an_object(claims: Sequence[str], lexicon: Lexicon) -> UnknownName:
    odd = next(claim for claim in claims if claim not in lexicon.nodes)
    return UnknownName(
        f"The judge 'objects' was asked about {odd!r}, which is not in its vocabulary. Leave the unit at `auto` or "
        f"`object`, or name a vocabulary that has it.{suggest(odd, lexicon.nodes)}"
    )


def _read(path: Path) -> Lexicon:
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(
            f"Cannot read the vocabulary {path}: {error}. It should be a JSON file like "
            '{"lighthouse": ["beacon", "light tower"]}.'
        ) from error
    if not (isinstance(table, dict) and table and all(map(_is_words, table.values()))):
        raise BadInput(
            f"The vocabulary {path} is not of the layout {{object: [words]}}. It should be one JSON object whose "
            'values are lists of text, like {"lighthouse": ["beacon", "light tower"], "pier": []}.'
        )
    return Lexicon.of(table)


def _is_words(value: Json) -> bool:
    return isinstance(value, list) and all(isinstance(word, str) for word in value)
