import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlmtools.errors import BadInput
from vlmtools.scoring import multiple_choice as mc


def test_a_leading_letter_is_taken_even_from_a_word():
    texts = ("A", "(b)", "C. three", "Because", "A dog", "3", "", "Z")
    assert [mc.first_letter(text) for text in texts] == ["A", "B", "C", "B", "A", None, None, None]


def test_a_clear_letter_stands_alone_or_is_announced_or_is_the_text_of_one_choice():
    choices = ("Open", "Closed")
    assert mc.clear_letter("The answer is (B).", choices, "AB") == "B"
    assert mc.clear_letter("Answer: A", choices, "AB") == "A"
    assert mc.clear_letter("(a) Open", choices, "AB") == "A"
    assert mc.clear_letter("The door is closed.", choices, "AB") == "B"
    assert mc.clear_letter("Because it is open or closed", choices, "AB") is None
    assert mc.clear_letter("The answer is a closed door.", choices, "AB") == "B"
    assert mc.clear_letter("", choices, "AB") is None


def test_a_pair_counts_only_with_both_right():
    score = mc.pair_score({1: True, 2: True, 3: True, 4: False})
    assert (score.pair_accuracy, score.accuracy, score.n_pairs) == (0.5, 0.75, 2)
    with pytest.raises(BadInput, match="twin 4"):
        mc.pair_score({1: True, 2: True, 3: True})
    with pytest.raises(BadInput, match="no answers"):
        mc.pair_score({})


def test_the_grader_must_say_yes_or_no_alone():
    replies = ("Yes", "no\n", "Yes.", "yes it does", None)
    assert [mc.read_grade(reply) for reply in replies] == [True, False, None, None, None]


def test_cv_bench_weighs_its_halves_alike():
    rows = [("ADE20K", "Count", True), ("COCO", "Count", False), ("COCO", "Relation", False)]
    score = mc.cv_score([*rows, ("Omni3D", "Depth", True)])
    assert (score.two_d, score.three_d, score.overall, score.n) == (0.5, 1.0, 0.75, 4)
    assert score.by_task == {"Count": 0.5, "Relation": 0.0, "Depth": 1.0}
    with pytest.raises(BadInput, match="Omni3D"):
        mc.cv_score(rows)


def test_choices_are_read_from_mmvps_options():
    assert mc.choices_of("(a) Open (b) Closed") == ["Open", "Closed"]


@given(st.dictionaries(st.integers(1, 20), st.booleans(), min_size=1))
def test_pairs_are_never_easier_than_questions(half):
    right = {
        number: half.get(number, False)
        for pair in {(n + 1) // 2 for n in half}
        for number in (2 * pair - 1, 2 * pair)
    }
    score = mc.pair_score(right)
    assert score.pair_accuracy <= score.accuracy
