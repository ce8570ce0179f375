import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from places import cases, data_roots

from vlmtools.errors import BadInput
from vlmtools.scoring import faithscore as fs


@pytest.mark.golden
@pytest.mark.parametrize("path", cases(data_roots(), "faithscore/*.jsonl.gz"))
def test_the_human_annotation_has_the_measured_means(path):
    rows = [json.loads(line) for line in gzip.decompress(path.read_bytes()).decode().splitlines()]
    score = fs.score(fs.labels(row["stage 2"]) for row in rows)
    assert score.n_facts == sum(len(row["stage 2"]) for row in rows)
    assert score.official == pytest.approx(
        score.macro * (score.n_answers - score.n_without_facts) / score.n_answers
    )
    if path.name == "human_annotation.jsonl.gz":
        assert (round(score.micro, 6), round(score.macro, 6)) == (0.807246, 0.846979)
        assert (score.n_answers, score.n_without_facts, score.n_facts) == (180, 16, 1380)


def test_an_answer_without_facts_counts_zero_only_officially():
    score = fs.score([[True, False], []])
    assert (score.official, score.macro, score.micro) == (0.25, 0.5, 0.5)
    with pytest.raises(BadInput):
        fs.score([])


def test_facts_are_read_by_kind():
    reply = "Entities: A dog. A cat.\nRelations:\nColors: The dog is red.\nCounting:\nOther attributes:"
    found = fs.facts_of(reply)
    assert found["Entities"] == ("A dog", "A cat.") and found["Relations"] == ()
    assert set(fs.facts_of("I cannot.").values()) == {()}


def test_any_yes_supports_officially():
    assert [fs.read_check(text) for text in ("Yes.", "eyes", "no", "", None)] == [
        True,
        True,
        False,
        False,
        False,
    ]
    assert [fs.read_check(text, "lenient") for text in ("Yes.", "eyes", "no", None)] == [
        True,
        None,
        False,
        None,
    ]


def test_the_polarity_of_labels_can_be_turned():
    assert fs.labels({"a": 1, "b": 0}) == (True, False)
    assert fs.labels({"a": 1, "b": 0}, supported=0) == (False, True)


@given(st.lists(st.lists(st.booleans(), max_size=5), min_size=1))
def test_the_order_of_answers_changes_nothing(answers):
    score, turned = fs.score(answers), fs.score(answers[::-1])
    assert turned.official == pytest.approx(score.official) and turned.micro == score.micro
    assert 0 <= score.official <= score.macro <= 1
