"""CHAIR: how often a caption names COCO objects that are not in the picture, exactly as the official program counts.

Traps worth knowing before numbers are compared:

* CHAIRi counts repeated mentions: a wrong "chair" said three times is three hallucinations.
* Recall is over distinct objects and pooled over captions: objects found in all captions / objects in all pictures.
* Short or empty captions get a low CHAIR for free; never read it without recall and length.
* The rules of the plural make "bus" into "bu", which names nothing; "buses" does. That is official.
* The truth is the objects annotated as instances plus those that the human captions name.

Nothing is downloaded: the tokenizer, the plural rules and the table of 80 objects are part of the package. They follow
the official program on NLTK 3.10; earlier releases of NLTK cut 'quoted' words in a different place.

Reference: arXiv:1809.02156, section 3; Recall as in the program's standalone edition.
"""

import gzip
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vlmtools.errors import BadInput, MissingField, suggest
from vlmtools.scoring._coco_objects import SYNONYMS
from vlmtools.scoring._lexicon import Lexicon, Mention
from vlmtools.types import Json

__all__ = [
    "COCO", "NODES", "CaptionScore", "ChairScore", "Lexicon", "Mention",
    "ground_truth_from_coco", "load_truth", "mentions", "score", "score_caption",
]  # fmt: skip

NODES: tuple[str, ...] = tuple(SYNONYMS)
"""The 80 objects, in the order of the official table."""
COCO = Lexicon.coco()
"""The official table of words."""


@dataclass(frozen=True, slots=True)
class CaptionScore:
    """CHAIR of one caption.

    Args:
        chair_s: 1 when anything is hallucinated, else 0.
        chair_i: Hallucinated mentions / mentions, 0 when the caption names nothing.
        recall: Distinct objects rightly named / objects in the picture, 0 when the picture has none.
        generated: The object of every mention, in order, repeats kept.
        hallucinated: (word, object) of every mention that is not in the picture.
        indices: The official token index of each of them.
        n_found: Distinct objects rightly named.
        n_truth: Distinct objects in the picture.
        n_words: Words of the caption, split at blanks.
    """

    chair_s: int = 0
    chair_i: float = 0.0
    recall: float = 0.0
    generated: tuple[str, ...] = ()
    hallucinated: tuple[tuple[str, str], ...] = ()
    indices: tuple[int, ...] = ()
    n_found: int = 0
    n_truth: int = 0
    n_words: int = 0


@dataclass(frozen=True, slots=True)
class ChairScore:
    """CHAIR of many captions; all rates are in [0, 1].

    Args:
        chair_s: Share of captions with any hallucination.
        chair_i: Hallucinated mentions / mentions over all captions; 0 when nothing is named, so look at `coverage`.
        recall: Distinct objects rightly named / objects in the pictures, both summed over captions.
        n_captions: Captions counted.
        n_mentions: Mentions counted, repeats included.
        n_hallucinated: Those of them that are not in the picture.
        mean_words: Mean number of words of a caption.
        coverage: Share of captions that name at least one object.
        captions: Id → score of that caption, in the order given.
    """

    chair_s: float = 0.0
    chair_i: float = 0.0
    recall: float = 0.0
    n_captions: int = 0
    n_mentions: int = 0
    n_hallucinated: int = 0
    mean_words: float = 0.0
    coverage: float = 0.0
    captions: Mapping[str, CaptionScore] = field(default_factory=dict)


def mentions(caption: str) -> tuple[Mention, ...]:
    """Every place where a caption names one of the 80 objects, in order.

    Args:
        caption: The caption as the model wrote it.

    Reference: arXiv:1809.02156, section 3.
    """
    return COCO.mentions(caption)


def score_caption(caption: str, truth: Collection[str]) -> CaptionScore:
    """CHAIR of one caption.

    Args:
        caption: The caption as the model wrote it.
        truth: The objects in the picture, names out of `NODES`; repeats do not matter.

    Raises:
        BadInput: `truth` holds a name that is not one of the 80.

    Reference: arXiv:1809.02156, eq. 1 and 2.
    """
    return _scored(caption, _objects(truth))


def score(
    captions: Mapping[str, str] | Mapping[int, str],
    truth: Mapping[str, Collection[str]] | Mapping[int, Collection[str]],
) -> ChairScore:
    """CHAIR of many captions.

    Args:
        captions: Image id → caption. Ids may be numbers or text; 42 and "42" are the same image.
        truth: Image id → objects in the picture, names out of `NODES`; images without a caption do not count. For a
            picture without any of the 80 objects give an empty list.

    Raises:
        BadInput: There are no captions, or `truth` holds a name that is not one of the 80.
        MissingField: A captioned image is not in `truth`.

    Reference: arXiv:1809.02156, eq. 1 and 2.
    """
    known = {str(image): objects for image, objects in truth.items()}
    texts = {str(image): caption for image, caption in captions.items()}
    _check_ids(texts, known)
    scored = {image: _scored(caption, _objects(known[image])) for image, caption in texts.items()}
    return _pooled(scored)


def load_truth(path: str | Path) -> dict[str, frozenset[str]]:
    """Read the objects in each picture from a file `{image id: [objects]}`, JSON or gzipped JSON.

    Args:
        path: The file; a name that ends in `.gz` is unpacked while reading.

    Raises:
        BadInput: It cannot be read, is not of that layout, or has a name that is not one of the 80.
    """
    rows = _read_json(Path(path))
    if not (isinstance(rows, dict) and all(map(_is_names, rows.values()))):
        raise BadInput(
            f"{path} is not of the layout {{image id: [objects]}}. "
            'An example: {"42": ["person", "dog"]}. `ground_truth_from_coco` makes it from COCO\'s own files.'
        )
    return {image: _objects(row) for image, row in rows.items()}


def ground_truth_from_coco(instances: Json, captions: Json) -> dict[str, frozenset[str]]:
    """The official truth, from COCO's annotation files: annotated instances plus what the human captions name.

    Args:
        instances: Content of `instances_val2014.json` (or train; the official truth joins both).
        captions: Content of `captions_val2014.json` of the same images.

    Raises:
        MissingField: One of them is not a COCO annotation file.
    """
    truth: dict[str, set[str]] = {}
    try:
        names = {category["id"]: COCO.objects[category["name"]] for category in instances["categories"]}
        for row in instances["annotations"]:
            truth.setdefault(str(row["image_id"]), set()).add(names[row["category_id"]])
        for row in captions["annotations"]:
            truth.setdefault(str(row["image_id"]), set()).update(COCO.named(row["caption"]))
    except (KeyError, TypeError) as error:
        raise MissingField(
            f"No {error} in what was given. COCO's instances file has `categories` and `annotations`, its captions "
            "file has `annotations`. Give the parsed content of the two files, instances first."
        ) from error
    return {image: frozenset(objects) for image, objects in truth.items()}


def _scored(caption: str, truth: frozenset[str]) -> CaptionScore:
    found = COCO.found(caption)
    wrong = [one for one in found if one.node not in truth]
    right = {one.node for one in found} & truth
    return CaptionScore(
        chair_s=int(bool(wrong)),
        chair_i=_share(len(wrong), len(found)),
        recall=_share(len(right), len(truth)),
        generated=tuple(one.node for one in found),
        hallucinated=tuple((one.word, one.node) for one in wrong),
        indices=tuple(one.idx for one in wrong),
        n_found=len(right),
        n_truth=len(truth),
        n_words=len(caption.split()),
    )


def _pooled(captions: Mapping[str, CaptionScore]) -> ChairScore:
    each = captions.values()
    n_mentions = sum(len(one.generated) for one in each)
    n_hallucinated = sum(len(one.hallucinated) for one in each)
    return ChairScore(
        chair_s=_share(sum(one.chair_s for one in each), len(captions)),
        chair_i=_share(n_hallucinated, n_mentions),
        recall=_share(sum(one.n_found for one in each), sum(one.n_truth for one in each)),
        n_captions=len(captions),
        n_mentions=n_mentions,
        n_hallucinated=n_hallucinated,
        mean_words=_share(sum(one.n_words for one in each), len(captions)),
        coverage=_share(sum(bool(one.generated) for one in each), len(captions)),
        captions=captions,
    )


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _objects(names: Iterable[str]) -> frozenset[str]:
    objects = frozenset(names)
    if not objects <= COCO.nodes:
        odd = min(objects - COCO.nodes)
        raise BadInput(f"{odd!r} is not one of the 80 COCO objects.{suggest(odd, NODES)}")
    return objects


def _is_names(value: Json) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _check_ids(texts: Mapping[str, str], known: Mapping[str, Collection[str]]) -> None:
    if not texts:
        raise BadInput(
            "There are no captions to score. CHAIR needs {image id: caption} with at least one entry."
        )
    missing = [image for image in texts if image not in known]
    if missing:
        raise MissingField(
            f"No truth for {len(missing)} of {len(texts)} captioned images, first of them {missing[0]!r}. "
            f"The truth has {len(known)} images. Take out those captions, or add the image with an empty list when the "
            "picture has none of the 80 objects."
        )


def _read_json(path: Path) -> Json:
    try:
        raw = path.read_bytes()
        return json.loads(gzip.decompress(raw) if path.suffix == ".gz" else raw)
    except (OSError, EOFError, ValueError) as error:
        raise BadInput(
            f"Cannot read {path}: {error}. It should be JSON, or gzipped JSON named `.gz`."
        ) from error
