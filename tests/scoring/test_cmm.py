import pytest

from vlmtools.errors import BadInput
from vlmtools.scoring import cmm
from vlmtools.scoring.cmm import Probe


def test_the_gold_word_must_stand_within_five_characters_and_need_not_be_a_word() -> None:
    assert cmm.is_right("  Yes, there is", "yes")
    assert cmm.is_right("Not at all", "no")
    assert cmm.is_right("I know", "no")
    assert not cmm.is_right("I know", "no", strict=True)
    assert not cmm.is_right("Indeed yes", "yes")
    assert cmm.is_right("** No", "no") and cmm.is_right("**No**", "no", strict=True)


def test_always_yes_perceives_everything_and_resists_nothing() -> None:
    found = cmm.score([Probe("Yes.", "yes", "visual_dominance"), Probe("Yes.", "no", "audio-language")])
    assert (found.overall.perception, found.overall.resistance, found.overall.accuracy) == (1, 0, 0.5)
    assert found.subcategories["visual_dominance"].perception == 1
    assert found.subcategories["visual_dominance"].n_no == 0


def test_rates_are_also_given_per_granularity_and_subcategory() -> None:
    found = cmm.score(
        [
            Probe("no", "no", "visual-language", "object-level"),
            Probe("yes", "no", "visual-language", "event-level"),
        ]
    )
    assert found.granularities["object-level"]["visual-language"].resistance == 1
    assert found.granularities["event-level"]["visual-language"].resistance == 0


def test_missing_loose_and_unread_answers_are_counted() -> None:
    found = cmm.score([Probe(None, "yes"), Probe("Not so", "no"), Probe("Perhaps", "no")])
    assert (found.n_missing, found.n_loose, found.n_unread) == (1, 1, 2)
    assert (found.overall.accuracy, found.strict.accuracy) == (pytest.approx(1 / 3), 0)


def test_a_right_answer_that_is_neither_yes_nor_no_is_refused() -> None:
    with pytest.raises(BadInput, match="perhaps"):
        cmm.score([Probe("yes", "perhaps")])
    with pytest.raises(BadInput, match="no questions"):
        cmm.score([])
