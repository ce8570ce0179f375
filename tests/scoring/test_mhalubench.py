import gzip
import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from places import cases, data_roots

from vlmtools.errors import BadInput
from vlmtools.scoring import mhalubench as mh

FILES = cases(data_roots(), "mhalubench/*claim_labels*.json.gz")


def answers(path):
    return [mh.claims_of(row["annotation"]) for row in json.loads(gzip.decompress(path.read_bytes()))]


@pytest.mark.golden
@pytest.mark.parametrize("path", FILES)
def test_the_published_captions_have_the_published_rates(path):
    rates = mh.label_rates(answers(path))
    assert 0 < rates.claim_rate < 1 and rates.claim_rate <= rates.segment_rate <= 1
    if path.name.startswith("image_caption_200"):
        assert (rates.n_answers, rates.n_segments, rates.n_claims) == (200, 661, 1142)
        shares = (rates.claim_rate, rates.segment_rate, rates.claim_rate_per_answer)
        assert [round(100 * share, 2) for share in shares] == [53.68, 65.66, 54.14]


@pytest.mark.golden
@pytest.mark.parametrize("path", FILES)
def test_segment_labels_follow_from_claims(path):
    for row in json.loads(gzip.decompress(path.read_bytes())):
        claims = mh.claims_of(row["annotation"])
        ours = mh.by_segment(claims, [claim.hallucinated for claim in claims])
        given_labels = [mh.is_hallucination(s["segment_label"]) for s in row["annotation"] if s["claims"]]
        assert list(ours) == given_labels


def test_both_classes_are_scored():
    score = mh.detection([True, True, False, False], [True, False, False, False])
    assert (score.hallucination.precision, score.hallucination.recall) == (1.0, 0.5)
    assert (score.faithful.precision, score.faithful.recall) == (2 / 3, 1.0)
    assert score.macro_f1 == pytest.approx((2 / 3 + 0.8) / 2)


def test_strange_labels_and_other_lengths_are_refused():
    with pytest.raises(BadInput, match="maybe"):
        mh.is_hallucination("maybe")
    with pytest.raises(BadInput):
        mh.detection([True], [])
    with pytest.raises(BadInput):
        mh.label_rates([])


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1))
def test_the_order_changes_nothing_and_perfection_is_one(pairs):
    shuffled = random.Random(0).sample(pairs, len(pairs))
    score = mh.detection(*map(list, zip(*pairs, strict=True)))
    assert mh.detection(*map(list, zip(*shuffled, strict=True))) == score
    truth = [one for one, _ in pairs]
    assert mh.detection(truth, truth).accuracy == 1
