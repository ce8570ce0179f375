import gzip
import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from places import cases, data_roots

from vlmtools.errors import BadInput
from vlmtools.scoring import hallusionbench as hb

FILES = cases(data_roots(), "hallusionbench/HallusionBench*.json.gz")


def judged(path, verdict):
    rows = json.loads(gzip.decompress(path.read_bytes()))
    keys = ("category", "subcategory", "set_id", "figure_id", "question_id", "visual_input")
    return [
        hb.Judged(*(row[key] for key in keys), verdict(i, row["gt_answer"] == "1"), row["gt_answer"] == "1")
        for i, row in enumerate(rows)
    ]


def percent(score):
    one = score.all
    return [round(100 * value, 4) for value in (one.a_acc, one.f_acc, one.q_acc, one.easy, one.hard)]


def says(answer):
    return lambda i, truth: hb.read(answer(i, truth), truth)


MADE_UP = {
    "all yes": (says(lambda i, t: "Yes."), [42.8698, 7.2254, 3.9560, 46.3736, 34.1860]),
    "all no": (says(lambda i, t: "no"), [57.1302, 12.1387, 19.3407, 53.1868, 58.1395]),
    "odd yes": (
        says(lambda i, t: "Yes" if i % 2 else "No, it"),
        [50.0443, 29.1908, 10.1099, 54.5055, 35.1163],
    ),
    "seventh": (lambda i, t: int(i % 7 != 0), [85.6510, 62.4277, 64.3956, 79.1209, 84.4186]),
    "fifth": (lambda i, t: 2 if i % 5 == 0 else 1, [82.9938, 45.0867, 57.8022, 80.6593, 75.8140]),
}


@pytest.mark.golden
@pytest.mark.parametrize("name", MADE_UP)
@pytest.mark.parametrize("path", FILES)
def test_made_up_answers_give_the_official_numbers(path, name):
    verdict, expected = MADE_UP[name]
    score = hb.score(judged(path, verdict))
    if score.all.n == 1129:
        assert percent(score) == expected
        assert (score.all.n_figures, score.all.n_pairs) == (346, 455)


@pytest.mark.golden
@pytest.mark.parametrize("path", FILES)
def test_the_two_categories_give_the_official_accuracies(path):
    score = hb.score(judged(path, MADE_UP["fifth"][0]))
    if score.all.n == 1129:
        assert [round(100 * part.a_acc, 4) for part in (score.vd, score.vs)] == [80.0338, 86.2454]


@pytest.mark.golden
@pytest.mark.parametrize("path", FILES)
def test_the_order_of_questions_changes_nothing(path):
    rows = judged(path, lambda i, t: i % 3)
    assert hb.score(random.Random(1).sample(rows, len(rows))) == hb.score(rows)


@pytest.mark.golden
@pytest.mark.parametrize("path", FILES)
def test_all_errors_are_blamed_on_something(path):
    score = hb.score(judged(path, lambda i, t: i * 7 % 3))
    assert sum(score.blame.values()) == pytest.approx(1)


def test_uncertain_is_right_only_without_a_figure():
    assert hb.Judged("VS", figure_id="0", visual_input="0", verdict=2).right
    assert not hb.Judged("VS", figure_id="1", verdict=2).right
    assert not hb.Judged("VD", figure_id="0", verdict=2).right


@pytest.mark.parametrize(
    ("row", "original", "expected"),
    [
        (hb.Judged("VD", figure_id="0", verdict=2), 2, (False, True)),
        (hb.Judged("VD", figure_id="1", verdict=0, same=True), 1, (True, True)),
        (hb.Judged("VD", figure_id="1", verdict=0, same=False), 1, (False, True)),
        (hb.Judged("VD", figure_id="1", verdict=0, same=True), 0, (False, True)),
        (hb.Judged("VS", figure_id="0", visual_input="0", verdict=0), 0, (True, False)),
        (hb.Judged("VS", figure_id="0", visual_input="0", verdict=2), 2, (False, False)),
        (hb.Judged("VS", figure_id="1", verdict=0, same=True), 0, (True, False)),
        (hb.Judged("VS", figure_id="1", verdict=0, same=False), 0, (True, True)),
        (hb.Judged("VS", figure_id="1", verdict=2), 0, (True, True)),
        (hb.Judged("VS", figure_id="1", verdict=0), 2, (False, True)),
        (hb.Judged("VS", figure_id="1", visual_input="1", verdict=0), 1, (False, True)),
        (hb.Judged("VS", figure_id="1", visual_input="2", verdict=0, same=True), 1, (True, False)),
        (hb.Judged("VS", figure_id="1", visual_input="2", verdict=0, same=False), 1, (False, True)),
        (hb.Judged("VS", figure_id="1", visual_input="2", verdict=1), 0, (False, False)),
    ],
)
def test_errors_are_blamed_as_the_official_table_says(row, original, expected):
    assert hb.blamed(row, original) == expected


def test_answers_are_read_without_a_judge_by_how_they_begin():
    assert [hb.read(text, True) for text in ("Yes.", "**yes**", "no", "The lines are equal.", "")] == [
        1,
        1,
        0,
        2,
        2,
    ]
    assert hb.read("There is no line.", False, "lenient") == 1


def test_the_judge_is_read_as_officially():
    replies = ("Correct", "incorrect.", "The answer is correct, not incorrect", "unclear", "")
    assert [hb.read_judge(reply) for reply in replies] == [1, 0, 0, 2, 2]
    assert [hb.read_same(reply) for reply in ("Same", "different", "not the same")] == [True, False, True]
    assert hb.judge_prompt("Q?", "R", "A").endswith(
        "Question:Q?\nReference answer: R\nPrediction answer:A\nOutput:"
    )
    assert hb.same_prompt("A", "B").endswith("response1:A\nresponse2: B\nOutput:")


def test_a_missing_original_or_a_double_question_is_refused():
    with pytest.raises(BadInput, match="original figure"):
        hb.score([hb.Judged(figure_id="1")])
    with pytest.raises(BadInput, match="twice"):
        hb.score([hb.Judged(), hb.Judged()])
    with pytest.raises(BadInput, match="no answers"):
        hb.score([])


@given(st.lists(st.sampled_from([0, 1, 2]), min_size=4, max_size=4))
def test_pairs_and_figures_are_never_easier_than_questions(verdicts):
    rows = [hb.Judged("VD", "a", "0", str(i % 2), str(i // 2), verdict=v) for i, v in enumerate(verdicts)]
    found = hb.score(rows).all
    assert found.f_acc <= found.a_acc and found.q_acc <= found.a_acc
    assert sum(found.consistency) == pytest.approx(1)
