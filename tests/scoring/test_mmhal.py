import pytest

from vlmtools.errors import BadInput, UnknownName
from vlmtools.scoring import mmhal


def test_exactly_one_rating_is_read():
    replies = (
        "Rating: 6, very",
        "rating: 0",
        "Rating: 3 … Rating: 4",
        "no rating",
        "RATING: 2\nrating: 2",
        None,
    )
    assert [mmhal.read_rating(reply) for reply in replies] == [6, 0, None, None, 2, None]
    assert mmhal.read_rating("Rating: 10") == 1


def test_the_official_numbers_count_unread_ratings_as_the_worst():
    score = mmhal.score({0: 6, 1: 3, 2: 2, 3: None})
    assert (score.rating, score.hallucination_rate, score.n, score.n_unread) == (11 / 4, 0.5, 4, 1)
    assert score.informativeness == pytest.approx((1 + 0 + 2 / 3 + 0) / 4)
    kind = mmhal.score({0: 6, 1: 3, 2: 2, 3: None}, "lenient")
    assert (kind.rating, kind.n, kind.n_unread) == (11 / 3, 3, 1)


def test_types_follow_the_place_modulo_eight():
    score = mmhal.score({0: 6, 8: 4, 7: 0})
    assert score.by_type == {"attribute": 5.0, "other": 0.0}


def test_the_prompt_is_filled_without_touching_braces_in_answers():
    prompt = mmhal.judge_prompt(["Cat", "Dog"], "How {}?", "Two.", "One {x}.", "{}|{}|{}|{}")
    assert prompt == "Cat, Dog|How {}?|Two.|One {x}."
    assert all(f"Rating: {rating}," in mmhal.TEMPLATE for rating in range(7))
    with pytest.raises(BadInput, match="four"):
        mmhal.judge_prompt([], "", "", "", "{}")


def test_nothing_to_count_and_an_unknown_rule_are_refused():
    with pytest.raises(BadInput):
        mmhal.score({0: None}, "lenient")
    with pytest.raises(UnknownName):
        mmhal.score({0: 1}, "kind")
