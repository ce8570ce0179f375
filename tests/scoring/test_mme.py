import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlmtools.errors import BadInput, UnknownName
from vlmtools.scoring import mme


def pair(task, image, first, second):
    return [mme.Answered(task, image, "yes", first), mme.Answered(task, image, "no", second)]


def test_only_the_first_four_characters_are_read():
    texts = ("Yes", "  no", "NO.", "I know", "The answer is yes", "yes, no", "nyes", "", "not")
    assert [mme.read(text) for text in texts] == ["yes", "no", "no", None, None, "yes", "yes", None, "no"]
    assert mme.read("The answer is yes", "lenient") == "yes"
    with pytest.raises(UnknownName):
        mme.read("yes", "other")


def test_a_task_scores_accuracy_plus_pictures_with_both_right():
    score = mme.score([*pair("count", "a", "yes", "no"), *pair("count", "b", "yes", "yes")])
    task = score.tasks["count"]
    assert (task.accuracy, task.accuracy_plus, task.points) == (0.75, 0.5, 125.0)
    assert score.points == {}


def test_a_perfect_model_gets_800_on_the_hallucination_subset():
    score = mme.score([row for task in mme.HALLUCINATION for row in pair(task, "a", "yes", "no")])
    assert score.points == {"hallucination": 800.0}


def test_unread_answers_are_wrong_and_counted():
    score = mme.score(pair("color", "a", None, "no"))
    assert (score.n_unread, score.tasks["color"].accuracy, score.tasks["color"].accuracy_plus) == (
        1,
        0.5,
        0.0,
    )


def test_a_picture_with_one_question_and_an_unknown_task_are_refused():
    with pytest.raises(BadInput, match="has two"):
        mme.score([mme.Answered("count", "a")])
    with pytest.raises(UnknownName, match="count"):
        mme.score(pair("counts", "a", "yes", "no"))


@given(
    st.lists(
        st.tuples(st.sampled_from(["yes", "no", None]), st.sampled_from(["yes", "no", None])), min_size=1
    )
)
def test_the_order_of_rows_changes_nothing_and_plus_is_never_higher(said):
    rows = [row for i, two in enumerate(said) for row in pair("scene", str(i), *two)]
    score = mme.score(rows)
    assert mme.score(random.Random(0).sample(rows, len(rows))) == score
    assert score.tasks["scene"].accuracy_plus <= score.tasks["scene"].accuracy
