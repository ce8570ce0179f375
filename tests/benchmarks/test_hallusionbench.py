import pytest
from places import published

from vlmtools.benchmarks.base import Said, score_answers
from vlmtools.benchmarks.hallusionbench import Hallusionbench
from vlmtools.errors import BadInput
from vlmtools.types import Sample

KEYS = ("category", "subcategory", "set_id", "figure_id", "question_id", "visual_input")
SAMPLE = Sample(
    "x", "Q?", reference="yes", extra=dict(zip(KEYS, ("VD", "a", "0", "0", "0", "1"), strict=True))
)


def values(benchmark, said):
    samples = {sample.id: sample for sample in benchmark.samples(published("hallusionbench"))}
    answers = {id: said(number, sample) for number, (id, sample) in enumerate(samples.items())}
    found = benchmark.values(score_answers(benchmark, samples, answers))
    return [round(100 * found[name], 4) for name in ("aAcc", "fAcc", "qAcc", "easy", "hard")], found


@pytest.mark.golden
def test_without_a_judge_all_yes_gives_the_official_numbers():
    found, _ = values(Hallusionbench(protocol="prefix"), lambda number, sample: Said("Yes, it is."))
    assert found == [42.8698, 7.2254, 3.9560, 46.3736, 34.1860]


@pytest.mark.golden
def test_stored_verdicts_give_the_official_numbers():
    found, more = values(
        Hallusionbench(), lambda number, s: Said("…", {"correctness": 2 if number % 5 == 0 else "1"})
    )
    assert found == [82.9938, 45.0867, 57.8022, 80.6593, 75.8140]
    assert [round(100 * more[f"aAcc/{part}"], 4) for part in ("VD", "VS")] == [80.0338, 86.2454]


def test_the_judge_is_asked_and_read():
    benchmark = Hallusionbench()
    (question,) = benchmark.questions(SAMPLE, "Maybe")
    assert question.prompt.endswith("Prediction answer:Maybe\nOutput:") and question.image is None
    replies = {"Correct": "correct", "incorrect": "incorrect", "unclear": None, None: None}
    for reply, parsed in replies.items():
        assert benchmark.score(SAMPLE, Said("Maybe", verdicts=(reply,))).parsed == parsed


def test_an_answer_without_a_verdict_is_refused_with_the_way_out():
    with pytest.raises(BadInput, match="--protocol prefix"):
        Hallusionbench().score(SAMPLE, Said("Yes"))
    assert Hallusionbench(protocol="prefix").questions(SAMPLE, "Yes") == ()
    with pytest.raises(BadInput, match="0 \\(incorrect\\)"):
        Hallusionbench().score(SAMPLE, Said("Yes", {"verdict": "good"}))


def test_official_answer_files_carry_the_parts_of_the_id():
    entry = dict(zip(KEYS, ("VD", "map", "1", "0", "2", "1"), strict=True)) | {"model_prediction": "Yes"}
    ((id, text, more),) = Hallusionbench().unpack(entry) or ()
    assert (id, text, more["category"]) == ("VD_map_1_0_2", "Yes", "VD")
    assert Hallusionbench().unpack({"id": "x", "text": "Yes"}) is None
