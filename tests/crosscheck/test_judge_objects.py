import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlmtools.crosscheck.judges.base import Question
from vlmtools.crosscheck.judges.objects import Objects
from vlmtools.errors import BadInput, UnknownName
from vlmtools.types import Sample

ITEM = Sample("1")


def supports(claims, evidence, judge=None):
    ((index, votes),) = (judge or Objects()).judge([Question(tuple(claims), evidence, ITEM)])
    assert index == 0 and all(vote.parsed for vote in votes)
    return [vote.support for vote in votes]


@pytest.fixture
def harbour(tmp_path):
    path = tmp_path / "harbour.json"
    path.write_text(
        json.dumps({"Lighthouse": ["beacon", "light towers"], "bus": [], "glass": ["Stained Glass Window"]})
    )
    return Objects(vocabulary=str(path))


def test_an_object_is_supported_by_any_of_its_words():
    assert supports(["dog", "person", "cat", "dog"], "Two puppies and a woman.") == [1, 1, 0, 1]


def test_evidence_that_names_nothing_supports_nothing():
    assert supports(["dog"], "") == [0]
    assert supports(["dog"], None) == [0]


def test_an_answer_is_split_into_mentions_with_their_places():
    answer = "A puppy sits on a Dining Table; the dog eats hot dogs."
    claims = Objects().split(answer)
    assert [claim.text for claim in claims] == ["dog", "dining table", "dog", "hot dog"]
    assert [answer[claim.start : claim.end] for claim in claims] == ["puppy", "Table", "dog", "hot dogs"]
    assert Objects().split("A serene mood.") == ()


@given(st.text(max_size=60))
def test_every_answer_supports_its_own_claims(text):
    claims = Objects().split("a cat and " + text)
    assert set(supports([claim.text for claim in claims], "a cat and " + text)) == {1.0}


def test_a_claim_outside_the_vocabulary_is_refused_and_not_counted_as_wrong():
    with pytest.raises(UnknownName, match="Leave the unit at `auto`"):
        supports(["A dog runs."], "a dog")
    with pytest.raises(UnknownName, match="Did you mean 'dining table'"):
        supports(["dinning table"], "a table")


def test_a_vocabulary_of_ones_own_takes_plurals_capitals_and_phrases(harbour):
    text = "Light towers, a BEACON, two buses, a bus and a stained glass window beside glasses."
    claims = harbour.split(text)
    assert [claim.text for claim in claims] == ["Lighthouse", "Lighthouse", "bus", "bus", "glass", "glass"]
    assert [text[claim.start : claim.end] for claim in claims][-2] == "stained glass window"
    assert supports(["bus", "Lighthouse"], "A lighthouse.", harbour) == [0, 1]


def test_the_identity_follows_the_words_and_not_the_path(harbour, tmp_path):
    (tmp_path / "copy.json").write_text((tmp_path / "harbour.json").read_text())
    (tmp_path / "other.json").write_text('{"pier": []}')
    copy, other = Objects(str(tmp_path / "copy.json")), Objects(str(tmp_path / "other.json"))
    assert harbour.identity() == copy.identity() != other.identity()
    assert Objects().identity()["judge"] == "objects" and Objects().unit == "object"
    json.dumps(harbour.identity())


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "Cannot read"),
        ("[]", "not of the layout"),
        ("{}", "not of the layout"),
        ('{"pier": "jetty"}', "not of the layout"),
        ('{"pier": ["jetty"], "quay": ["jetties"]}', "A word can name one object only"),
        ('{"pier": ["!"]}', "no word in it"),
    ],
)
def test_a_vocabulary_that_cannot_be_used_is_refused(tmp_path, content, says):
    path = tmp_path / "words.json"
    path.write_text(content)
    with pytest.raises(BadInput, match=says):
        Objects(str(path)).identity()


def test_a_missing_vocabulary_is_named(tmp_path):
    with pytest.raises(BadInput, match=r"nowhere\.json"):
        Objects(str(tmp_path / "nowhere.json")).split("a dog")


def test_two_hundred_thousand_questions_are_answered_in_seconds():
    passages = [
        f"Number {n}: a man with {'a dog' if n % 2 else 'two cats'} and an umbrella." for n in range(2000)
    ]
    questions = [
        Question(("dog", "person", "umbrella", "bed"), passages[n % 2000], ITEM) for n in range(200_000)
    ]
    begin = time.process_time()
    total = sum(sum(vote.support for vote in votes) for _, votes in Objects().judge(questions))
    assert total == 200_000 * 2.5
    assert time.process_time() - begin < 6
