import pytest

from vlmtools.errors import BadInput
from vlmtools.scoring import avhbench
from vlmtools.scoring.avhbench import CAPTIONING, Question

SEES, HEARS = "Audio-driven Video Hallucination", "Video-driven Audio Hallucination"


def test_the_metrics_of_a_task_are_those_of_its_table_of_counts() -> None:
    rows = [("Yes", "Yes")] * 6 + [("Yes", "No")] * 2 + [("No", "Yes")] * 4 + [("No", "No")] * 8
    found = avhbench.score_task([Question(SEES, said, gold) for said, gold in rows])
    assert (found.accuracy, found.precision, found.recall) == (0.7, 0.75, 0.6)
    assert found.f1 == pytest.approx(2 * 0.75 * 0.6 / 1.35)
    assert found.yes == 0.4


def test_always_yes_has_full_recall_and_says_yes_always() -> None:
    found = avhbench.score_task([Question(HEARS, "yes", gold) for gold in ("Yes", "No")])
    assert (found.recall, found.precision, found.yes, found.accuracy) == (1, 0.5, 1, 0.5)


def test_the_first_word_that_stands_alone_is_what_an_answer_says() -> None:
    assert avhbench.read_answer("I know: no, not yes") == "no"
    assert avhbench.read_answer("YES.") == "yes"
    assert avhbench.read_answer("Yesterday") is None


def test_unread_and_missing_answers_are_wrong_are_no_yes_and_are_counted_apart() -> None:
    found = avhbench.score_task([Question(SEES, "perhaps", "No"), Question(SEES, None, "Yes")])
    assert (found.accuracy, found.yes, found.n_unread, found.n_missing) == (0, 0, 1, 1)


def test_tasks_do_not_mix_and_captions_are_counted_and_not_scored() -> None:
    found = avhbench.score(
        [Question(SEES, "yes", "Yes."), Question(HEARS, "yes", "no"), Question(CAPTIONING, "A cat", "A dog")]
    )
    assert (found.tasks[SEES].accuracy, found.tasks[HEARS].accuracy, found.n_captions) == (1, 0, 1)
    assert CAPTIONING not in found.tasks


def test_a_label_that_is_neither_yes_nor_no_is_refused() -> None:
    with pytest.raises(BadInput, match="perhaps"):
        avhbench.score([Question(SEES, "yes", "perhaps")])
    with pytest.raises(BadInput, match="no questions"):
        avhbench.score([])
