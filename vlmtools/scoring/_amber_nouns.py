"""Nouns of an answer that are words of AMBER's vocabulary, found without NLTK.

The official program tags the answer with NLTK's perceptron and brings every noun to its WordNet lemma; then it keeps
the words of its vocabulary. So only those words need a decision, and the decision is one bit: noun or not.

* Lemmas are WordNet's rules of detachment, restricted to the vocabulary. The exceptions below are all the forms where
  the shortest WordNet lemma is another word: "vases" is the plural of "vas", "leaves" of "leaf", "men" is itself. The
  result is equal to NLTK's for every form of the 418 official words.
* The tag is approximated by a linear rule over the neighbouring words (`_amber_nouns.json`), fitted to what NLTK 3.10
  says about 16,000 published captions of COCO pictures, 26,000 made-up sentences with all 418 words, and 1,004 made-up
  answers in AMBER's format. A rule fitted without the captions of two models agreed with NLTK on 98.9 % of 26,748 words
  of theirs, and moved CHAIR, Cover, Hal and Cog by .1 points at most; taking every word for a noun agrees on 93.3 %.
  On 2,000 captions of five models to an instruction that it never saw, it agrees on 99.4 % of 17,014 words.

`nltk_nouns` is the official way, for users who have NLTK and its data.

Reference: the lemma rules are those of WordNet's Morphy; the exceptions are facts from WordNet 3.0 (its own licence).
"""

import json
from collections.abc import Collection, Sequence
from functools import cache
from pathlib import Path
from typing import Protocol

from vlmtools.errors import NotInstalled
from vlmtools.scoring._lemmas import shortest_form
from vlmtools.scoring._tokens import token_spans, tokens

# ruff: noqa: SIM905 - lists of words are read as text

_OTHER_LEMMA = frozenset(
    """
    TVs air-conditionings baconics bedsheets canns catholes chopsticks closestools cooktops dogholes e-books earings
    earrings ebooks electrombiles hots kiwifruits leaves men paragliders pissoirs rpoes sanitizers scoons seegulls
    showerpuffs slippers streetlamps sunglasses vases waterfonts
    """.split()
)
"""Forms whose lemma is no word of the vocabulary: another noun is shorter, or WordNet does not know the word."""


class Nouns(Protocol):
    """Finds the nouns of a text: lemmas, in order, repeats kept. Words outside `words` may be left out."""

    def __call__(self, text: str, words: Collection[str]) -> Sequence[str]:
        """The nouns of `text`; only those in `words` are used."""
        ...


def own_nouns(text: str, words: Collection[str]) -> list[str]:
    """The nouns of a text that are in the vocabulary, by this package's own rules.

    Args:
        text: An answer as written; case matters, as in the official program ("Dogs" is no word of the vocabulary).
        words: The vocabulary.
    """
    written = _cased_tokens(text)
    lemmas = ((place, lemma(token, words)) for place, token in enumerate(written))
    return [word for place, word in lemmas if word is not None and _is_noun(written, place)]


def nltk_nouns(text: str, words: Collection[str]) -> list[str]:
    """The nouns of a text by NLTK's tokenizer, tagger and lemmatizer: the official way, on the user's own NLTK.

    It needs the NLTK data `punkt_tab`, `averaged_perceptron_tagger_eng` and `wordnet`, which NLTK's downloader brings.

    Args:
        text: An answer as written.
        words: Not used; NLTK knows all words.

    Raises:
        NotInstalled: NLTK or its data are missing.
    """
    import importlib

    try:
        nltk = importlib.import_module("nltk")
        stem = importlib.import_module("nltk.stem")
        tagged = nltk.pos_tag(nltk.word_tokenize(text))
        lemmatize = stem.WordNetLemmatizer().lemmatize
        return [str(lemmatize(word)) for word, tag in tagged if tag.startswith("NN")]
    except (ImportError, LookupError) as problem:
        raise NotInstalled(
            "AMBER with nouns='nltk' needs the package 'nltk' and its data punkt_tab, averaged_perceptron_tagger_eng "
            f"and wordnet: {str(problem).strip().splitlines()[0]}. Run: pip install nltk, then "
            "python -m nltk.downloader punkt_tab averaged_perceptron_tagger_eng wordnet; or use nouns='own'."
        ) from problem


def lemma(token: str, words: Collection[str]) -> str | None:
    """The word of the vocabulary that a token is a form of, if it were a noun; None when there is none.

    Args:
        token: As written.
        words: The vocabulary.
    """
    found = None if token in _OTHER_LEMMA else shortest_form(token, words)
    return None if found in _OTHER_LEMMA else found


def _cased_tokens(text: str) -> list[str]:
    """Tokens as written: sentences and words are found in lower case, and looked up in the text."""
    lower = text.lower()
    if len(lower) != len(text):
        return tokens(lower)
    found = tokens(lower)
    return [text[begin:end] for begin, end in token_spans(lower, found)]


def _is_noun(written: Sequence[str], place: int) -> bool:
    weights = _weights()
    return sum(weights.get(feature, 0) for feature in features(written, place)) > 0


def features(written: Sequence[str], place: int) -> tuple[str, ...]:
    """What the rule looks at: the word, two neighbours on each side, and how those end.

    Args:
        written: All tokens of the answer.
        place: Which of them.
    """

    def near(step: int) -> str:
        where = place + step
        return written[where].lower() if 0 <= where < len(written) else ""

    w, p, q, n, m = written[place], near(-1), near(-2), near(1), near(2)
    return (
        "b", f"w {w}", f"p {p}", f"n {n}", f"P {q}", f"wp {w} {p}", f"wn {w} {n}", f"pn {p} {n}", f"pp {q} {p}",
        f"sp {p[-3:]}", f"sn {n[-3:]}", f"ws {w} {p[-3:]}", f"wt {w} {n[-3:]}", f"s {w[-3:]}", f"ps {p} {n[-3:]}",
        f"wP {w} {q}", f"sps {p[-3:]} {n[-3:]}", f"nn {n} {m}",
    )  # fmt: skip


@cache
def _weights() -> dict[str, int]:
    path = Path(__file__).with_name("_amber_nouns.json")
    content: dict[str, int] = json.loads(path.read_text(encoding="utf-8"))
    return content
