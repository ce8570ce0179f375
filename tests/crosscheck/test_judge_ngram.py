import gzip
import json
import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from places import cases, data_roots

from vlmtools.crosscheck.claims import sentences
from vlmtools.crosscheck.judges.base import Question
from vlmtools.crosscheck.judges.ngram import NGram, content_words, stem
from vlmtools.errors import BadInput
from vlmtools.types import Sample

ITEM = Sample("1")


def support(claim, evidence, n=1):
    ((index, (vote,)),) = NGram(n=n).judge([Question((claim,), evidence, ITEM)])
    assert index == 0 and vote.parsed
    return vote.support


def test_the_share_of_content_words_is_counted_by_hand():
    assert content_words("A dog is riding two red skateboards.") == ("dog", "rid", "2", "red", "skateboard")
    assert support("A dog is riding two red skateboards.", "The dog rides 2 skateboards.") == pytest.approx(
        4 / 5
    )


def test_pairs_tell_which_thing_is_red():
    claim, evidence = "There is a red car.", "A red bus stands beside a blue car."
    assert support(claim, evidence) == 1.0
    assert support(claim, evidence, n=2) == 0.5
    assert support(claim, "The red car is parked.", n=2) == 1.0
    assert support("There is a car.", evidence, n=2) == 1.0


def test_a_sentence_supports_itself_and_silence_supports_nothing():
    claim = "Three women sit on wooden benches."
    assert support(claim, claim, n=2) == 1.0
    assert support(claim, "") == support(claim, None) == 0.0


def test_a_sentence_without_content_is_undecided():
    assert support("It is there.", "A dog.") == 0.5
    assert support(".", "A dog.") == 0.5


def test_a_list_label_is_no_content():
    assert support("1. A dog", "A dog") == 1.0


FAMILIES = """
sit sits sitting sat; ride rides riding rode; bus buses; knife knives; city cities; glass glasses; person people
stop stops stopped stopping; horse horses; bench benches; 2 two; baby babies
"""
DIFFERENT = "bus bush car card cat cast dog dock man manor bed bead ring sing king red reed boat boot"


@pytest.mark.parametrize("family", FAMILIES.strip().replace("\n", ";").split(";"))
def test_forms_of_a_word_share_a_stem(family):
    assert len({stem(word) for word in family.split()}) == 1


def test_different_things_do_not_share_a_stem():
    words = DIFFERENT.split()
    assert len({stem(word) for word in words}) == len(words)


def test_languages_without_blanks_are_compared_by_character():
    assert support("一只狗", "一只猫") == pytest.approx(2 / 3)


def test_the_order_of_votes_is_the_order_of_claims():
    found = dict(
        NGram().judge([Question(("A dog.", "A cat."), "A cat.", ITEM), Question(("A cat.",), "A cat.", ITEM)])
    )
    assert [[vote.support for vote in found[index]] for index in (0, 1)] == [[0.0, 1.0], [1.0]]


def test_n_outside_its_range_is_refused_and_n_is_part_of_the_identity():
    with pytest.raises(BadInput, match="n=3"):
        list(NGram(n=3).judge([Question(("A dog.",), "A dog.", ITEM)]))
    assert NGram(n=1).identity() != NGram(n=2).identity()


@given(st.text(max_size=60), st.text(max_size=60), st.sampled_from([1, 2]))
def test_support_stays_between_zero_and_one(claim, evidence, n):
    assert 0.0 <= support(claim, evidence, n) <= 1.0


@pytest.mark.golden
@pytest.mark.parametrize("path", cases(data_roots(), "chair/captions/opera_*_beam5.jsonl.gz"))
def test_captions_of_the_same_picture_support_each_other_more_than_those_of_others(path):
    mine, yours = (_captions(place) for place in (path, path.with_name(path.name.replace("beam5", "ours"))))
    shared = [key for key in mine if key in yours]
    start = time.process_time()
    same = _mean_support([(mine[key], yours[key]) for key in shared])
    other = _mean_support([(mine[a], yours[b]) for a, b in pairwise(shared)])
    assert same > other + 0.15
    assert time.process_time() - start < 5.0


def _captions(path):
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return {row["image_id"]: row["caption"] for row in map(json.loads, file)}


def _mean_support(pairs):
    questions = [Question(tuple(c.text for c in sentences(a)) or (".",), b, ITEM) for a, b in pairs]
    votes = [vote.support for _, found in NGram().judge(questions) for vote in found]
    return sum(votes) / len(votes)
