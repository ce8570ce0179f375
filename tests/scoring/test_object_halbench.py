import pytest

from vlmtools.errors import BadInput
from vlmtools.scoring import object_halbench as oh


def nodes(*names):
    return [node for _, node in oh.node_words(names)]


def test_names_become_coco_objects_in_singular():
    assert nodes("dogs", "young women", "Tennis rackets", "two wine glasses", "buses") == [
        "dog", "person", "tennis racket", "wine glass", "bus",
    ]  # fmt: skip


def test_a_name_of_two_nouns_is_nothing_unless_the_table_has_it():
    assert nodes("baseball player", "home plate", "coffee table", "remote control") == [
        "dining table",
        "remote",
    ]


def test_a_baby_animal_is_the_animal_and_a_toilet_hides_a_seat():
    assert nodes("baby elephant") == ["elephant"]
    assert nodes("toilet", "seat") == ["toilet"]


def test_a_word_counts_once_and_two_words_for_one_object_twice():
    found = oh.extracted("a man, a man and a woman", ["man", "man", "woman"], ["person"])
    assert (len(found.words), found.n_found, found.hallucinated) == (2, 1, ())


def test_the_response_rate_is_over_answers_that_name_something():
    answers = [
        oh.extracted("x", ["dog"], ["cat"]),
        oh.extracted("y", ["cat"], ["cat"]),
        oh.extracted("z", [], ["cat"]),
    ]
    score = oh.score(answers)
    assert (score.response, score.response_all, score.mention, score.recall) == (1 / 2, 1 / 3, 1 / 2, 1 / 3)
    assert (score.n, score.n_naming) == (3, 2)
    assert oh.score(answers[::-1]) == score


def test_a_list_is_read_from_the_whole_reply_or_its_last_line():
    assert oh.read_objects('["dog", "cat"]') == ("dog", "cat")
    assert oh.read_objects('Here it is:\n["dog"]') == ("dog",)
    assert oh.read_objects("[]") == ()
    assert [oh.read_objects(reply) for reply in ("a dog", '{"a": 1}', None)] == [None, None, None]


def test_short_answers_are_not_shown_to_the_judge():
    assert oh.is_too_short("A red dog.") and not oh.is_too_short("A dog and cat")
    assert "{answer}" not in oh.judge_prompt("Q", "A")


def test_an_unknown_truth_and_no_answers_are_refused():
    with pytest.raises(BadInput, match="unicorn"):
        oh.extracted("", [], ["unicorn"])
    with pytest.raises(BadInput):
        oh.score([])
