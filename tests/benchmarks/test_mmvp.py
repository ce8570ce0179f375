import pytest

from vlmtools.benchmarks.base import Said, score_answers
from vlmtools.benchmarks.mmvp import Mmvp
from vlmtools.errors import BadInput


@pytest.fixture
def data(tmp_path):
    lines = ["Index,Question,Options,Correct Answer"]
    lines += [f"{n},Is it open?,(a) Open (b) Closed,({'ab'[(n + 1) % 2]})" for n in range(1, 301)]
    (tmp_path / "Questions.csv").write_text("\n".join(lines))
    return tmp_path


def values(benchmark, data, say):
    samples = {sample.id: sample for sample in benchmark.samples(data)}
    return benchmark.values(
        score_answers(benchmark, samples, {id: say(sample) for id, sample in samples.items()})
    )


def test_one_answer_for_all_gets_half_the_questions_and_no_pair(data):
    assert values(Mmvp(protocol="letter"), data, lambda s: Said("(a)")) == {
        "pair_accuracy": 0.0,
        "accuracy": 0.5,
    }


def test_the_right_letters_get_everything_and_two_pairs_change_with_corrected_labels(data):
    right = {sample.id: sample.reference for sample in Mmvp().samples(data)}
    assert values(Mmvp(protocol="letter"), data, lambda s: Said(right[s.id]))["pair_accuracy"] == 1
    corrected = values(Mmvp(protocol="letter", corrected=True), data, lambda s: Said(right[s.id]))
    assert corrected["pair_accuracy"] == 148 / 150


def test_the_judge_decides_officially(data):
    assert values(Mmvp(), data, lambda s: Said("x", verdicts=("yes",)))["pair_accuracy"] == 1
    assert values(Mmvp(), data, lambda s: Said("x", {"grade": "Yes."}))["accuracy"] == 0
    sample = next(iter(Mmvp().samples(data)))
    assert "the correct answer is (a)" in Mmvp().questions(sample, "Open")[0].prompt
    with pytest.raises(BadInput, match="--protocol letter"):
        Mmvp().score(sample, Said("Open"))
