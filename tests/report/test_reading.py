"""The plain-language reading says what the numbers say, and no more."""

from dataclasses import replace

import pytest
from report.example_ranking import example_ranking

from vlmtools.crosscheck.ranking import Pair, Ranking
from vlmtools.report._reading import facts, meaning, measured, reading
from vlmtools.report._ties import ties


def two(tied: bool, p: float = 0.2) -> Ranking:
    base = example_ranking(n_models=2)
    rows = tuple(
        replace(row, tie_group=1 if tied else at, claims_per_item=5.0) for at, row in enumerate(base.rows)
    )
    pair = Pair(rows[0].name, rows[1].name, 0.006, (-0.026, 0.038), p, p, 0.045)
    return replace(base, rows=rows, pairs=(pair,))


def test_tied_models_are_said_to_be_tied_and_what_would_be_needed() -> None:
    assert reading(two(tied=True))[1] == (
        "heron-9b-instruct and otter-vision-7b cannot be told apart with these 200 items: they differ by 0.006; "
        "a difference of about 0.045 would be needed (80 % power)."
    )


def test_a_lead_is_given_with_its_interval_and_p_value() -> None:
    assert reading(two(tied=False, p=0.0004))[1] == (
        "It is ahead of otter-vision-7b by 0.006 (−0.026 to 0.038, Holm-corrected p < 0.001)."
    )


def test_a_terse_model_and_unread_votes_are_named() -> None:
    said = " ".join(reading(example_ranking()))
    assert "finch-2b makes 1.9 claims per answer" in said
    assert "3.2 % of a model's votes (plover-7b)" in said
    assert "claims per answer" not in " ".join(reading(two(tied=True)))


def test_one_model_and_none_are_said_plainly() -> None:
    assert "nothing to compare" in reading(example_ranking(n_models=1))[0]
    assert reading(Ranking((), {}, (), (), {}, (), {})) == ("No model was ranked.",)


@pytest.mark.parametrize(
    ("mode", "half"),
    [
        ("explicit", "the other models"),
        ("self", "its own"),
        ("ref", "the reference"),
        ("implicit", "look at the item"),
    ],
)
def test_the_meaning_follows_the_mode_of_the_run(mode: str, half: str) -> None:
    record = {
        "settings": {"mode": mode, "judge": {"name": "nli", "model": "x"}, "weights": "em", "level": 0.9}
    }
    known = facts(replace(example_ranking(), record=record))
    assert half in meaning(known)
    assert (known.judge, known.weights, known.percent) == ("nli", "em", "90 %")


def test_a_record_of_another_shape_is_read_as_far_as_it_goes() -> None:
    known = facts(
        replace(example_ranking(), record={"settings": [1], "judge": ["a"], "level": "high", "n_items": 7})
    )
    assert (known.judge, known.level, known.n_items) == ("", 0.95, 7)
    assert measured(known).startswith("8 models answered the same 7 items;")


def test_models_of_a_group_that_do_not_stand_together_share_the_letter_without_a_bracket() -> None:
    rows = example_ranking(n_models=4).rows
    found = ties([replace(row, tie_group=group) for row, group in zip(rows, (1, 2, 1, 3), strict=True)])
    assert [(tie.place, tie.letter) for tie in found] == [
        ("only", "a"),
        ("none", ""),
        ("only", "a"),
        ("none", ""),
    ]
