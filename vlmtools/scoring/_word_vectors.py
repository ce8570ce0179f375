"""Cosine of words by a text file of vectors, for AMBER's near words."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vlmtools.errors import BadInput

Similar = Callable[[str, str], float]
"""Cosine of two words, -1 to 1."""


def similarity_from(path: str | Path) -> Similar:
    """Cosine of two words by a text file of word vectors: a word per line, then its numbers, parted by blanks.

    Official numbers need the vectors of spaCy's `en_core_web_lg` for AMBER's 418 words; write `nlp(word).vector` of
    each into such a file. A word without a vector is near to nothing but itself.

    Args:
        path: The file.

    Raises:
        BadInput: It cannot be read, or a line is not of the layout.
    """
    table: dict[str, np.ndarray] = {}
    try:
        for line in filter(str.strip, Path(path).read_text(encoding="utf-8").splitlines()):
            word, *values = line.split()
            table[word] = np.array(values, dtype=float)
    except (OSError, ValueError) as problem:
        raise BadInput(
            f"Cannot read word vectors from {str(path)!r}, after {len(table)} good lines: {problem}. A line is a word "
            "and its numbers, parted by blanks, as in GloVe's text files."
        ) from problem
    return _Cosine(table)


@dataclass(frozen=True)
class _Cosine:
    table: Mapping[str, np.ndarray]

    def __call__(self, first: str, second: str) -> float:
        a, b = self.table.get(first), self.table.get(second)
        if a is None or b is None:
            return float(first == second)
        size = float(np.linalg.norm(a) * np.linalg.norm(b))
        return float(a @ b) / size if size else 0.0
