"""Singular of an English noun out of a known list of words: WordNet's rules of detachment, restricted to that list.

The rules are those of WordNet's Morphy; the irregular forms are facts from its list of exceptions.
"""

from collections.abc import Collection, Iterator

_DETACH = (
    ("s", ""), ("ses", "s"), ("ves", "f"), ("xes", "x"), ("zes", "z"), ("ches", "ch"), ("shes", "sh"),
    ("men", "man"), ("ies", "y"),
)  # fmt: skip
_IRREGULAR = {
    "busses": "bus", "camerae": "camera", "children": "child", "geese": "goose", "grandchildren": "grandchild",
    "knives": "knife", "mice": "mouse", "potatoes": "potato", "thieves": "thief", "tomatoes": "tomato",
}  # fmt: skip


def shortest_form(token: str, words: Collection[str]) -> str | None:
    """The shortest of the listed words that a token may be a form of; None when there is none.

    Args:
        token: As written.
        words: The words that are looked for.
    """
    known = [form for form in (_IRREGULAR.get(token, token), *_detached(token)) if form in words]
    return min(known, key=len) if known else None


def _detached(token: str) -> Iterator[str]:
    return (token[: -len(ending)] + by for ending, by in _DETACH if token.endswith(ending))
