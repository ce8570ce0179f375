import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest
from places import cases, data_roots

from vlmtools.errors import BadInput
from vlmtools.scoring import videohallucer
from vlmtools.scoring.videohallucer import Pair

OFFICIAL = {
    "obj_rel": (0.79, 0.535, 0.42, 200),
    "temporal": (0.823864, 0.568182, 0.488636, 176),
    "semantic": (0.775, 0.505, 0.385, 200),
    "fact": (0.755, 0.525, 0.40, 200),
    "nonfact": (0.82, 0.505, 0.415, 200),
}
"""What the authors' program printed on the five published files of made-up answers."""


def read(path: Path) -> list[Any]:
    raw = path.read_bytes()
    return json.loads(gzip.decompress(raw) if path.suffix == ".gz" else raw)


def pairs_of(entries: list[Any]) -> list[Pair]:
    return [
        Pair(
            one["basic"]["predict"],
            one["hallucination"]["predict"],
            one["basic"]["answer"],
            one["hallucination"]["answer"],
        )
        for one in entries
    ]


def folders() -> list[Any]:
    found = sorted({path.parent for root in data_roots() for path in root.glob("**/obj_rel_with_*.json*")})
    return found or [pytest.param(None, marks=pytest.mark.skip(reason="no obj_rel_with_*.json* in the data"))]


def says(word: str, answer: str) -> bool:
    return re.search(r"\b" + word + r"\b", answer, re.I) is not None


@pytest.mark.golden
@pytest.mark.parametrize("path", cases(data_roots(), "**/*_with_synthetic_predictions.json*"))
def test_every_published_part_has_the_official_accuracies(path: Path) -> None:
    found = videohallucer.accuracy(pairs_of(read(path)))
    name = path.name.partition("_with_")[0]
    assert (found.basic, found.hallucination, found.both, found.n_pairs) == pytest.approx(
        OFFICIAL[name], abs=5e-7
    )


@pytest.mark.golden
@pytest.mark.parametrize("path", cases(data_roots(), "**/*_with_*predict*.json*"))
def test_every_file_of_answers_counts_as_a_plain_loop_does(path: Path) -> None:
    entries = read(path)
    basic = [says(one["basic"]["answer"], one["basic"]["predict"]) for one in entries]
    twin = [says(one["hallucination"]["answer"], one["hallucination"]["predict"]) for one in entries]
    found = videohallucer.accuracy(pairs_of(entries))
    assert found.basic * found.n_pairs == pytest.approx(sum(basic))
    assert found.hallucination * found.n_pairs == pytest.approx(sum(twin))
    assert found.both * found.n_pairs == pytest.approx(sum(a and b for a, b in zip(basic, twin, strict=True)))


@pytest.mark.golden
@pytest.mark.parametrize("folder", folders())
def test_macro_and_bias_are_the_official_ones_on_the_published_answers(folder: Path) -> None:
    if not (folder / "obj_rel_with_synthetic_predictions.json.gz").exists():
        pytest.skip("official numbers are known for the made-up answers only")
    files = {name: folder / f"{name}_with_synthetic_predictions.json.gz" for name in videohallucer.PARTS}
    found = videohallucer.score({name: pairs_of(read(path)) for name, path in files.items()})
    macro = (found.macro.basic, found.macro.hallucination, found.macro.both)
    assert macro == pytest.approx((0.792773, 0.527636, 0.421727), abs=5e-7)
    assert found.bias is not None
    assert found.bias.yes_difference == 0.08196721311475409
    assert found.bias.no_difference == -0.1834016393442623
    assert found.bias.false_positive_ratio == 0.5458646616541354
    assert found.bias.hallucination_score == 0.46959896507115134
    assert found.pooled.both == 0.42008196721311475
    assert found.pooled.n_pairs == 976


def test_yes_no_hits_both_questions_of_a_pair_and_strictly_none() -> None:
    found = videohallucer.score({"obj_rel": [Pair("yes no", "Yes or no?")]})
    assert (found.macro.basic, found.macro.hallucination, found.macro.both) == (1, 1, 1)
    assert (found.strict.both, found.n_both_words) == (0, 2)


def test_a_word_inside_a_word_does_not_hit() -> None:
    assert not videohallucer.hits("I know", "no")
    assert not videohallucer.hits("Yesterday", "yes")
    assert videohallucer.hits("YES!", "yes")


def test_a_missing_answer_is_wrong_and_counted() -> None:
    found = videohallucer.score({"fact": [Pair(None, "no"), Pair("yes", "maybe")]})
    assert (found.macro.basic, found.n_missing, found.n_neither) == (0.5, 1, 1)


def test_the_official_bias_mixes_the_two_questions_and_ours_does_not() -> None:
    always_no = [Pair("no", "no")] * 3
    official, ours = videohallucer.official_bias(always_no), videohallucer.own_bias(always_no)
    assert (official.yes_difference, official.no_difference) == (-0.5, 0.5)
    assert (ours.yes_difference, ours.no_difference) == (-0.5, 0.5)
    said_nothing = [
        Pair("perhaps", "no")
    ] * 3  # a plain question without a no: the official program counts one
    assert videohallucer.official_bias(said_nothing).no_difference == 0.5
    assert videohallucer.own_bias(said_nothing).no_difference == 0
    assert official.hallucination_score is None


def test_pairs_that_do_not_ask_for_yes_and_then_no_have_no_bias() -> None:
    assert videohallucer.score({"factdet": [Pair("no", "yes", "no", "yes")]}).bias is None


def test_nothing_to_score_is_refused() -> None:
    with pytest.raises(BadInput, match="no parts"):
        videohallucer.score({})
    with pytest.raises(BadInput, match="no pairs"):
        videohallucer.score({"fact": []})
