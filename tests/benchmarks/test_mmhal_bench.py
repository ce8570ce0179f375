import json

import pytest

from vlmtools.benchmarks.base import Said, score_answers
from vlmtools.benchmarks.mmhal_bench import MmhalBench
from vlmtools.errors import BadInput


@pytest.fixture
def samples(tmp_path):
    rows = [
        {"question": f"q{n}", "gt_answer": "a", "image_content": ["Cat"], "image_src": f"http://x/{n}.jpg"}
        for n in range(4)
    ]
    (tmp_path / "response_template.json").write_text(json.dumps(rows))
    return {sample.id: sample for sample in MmhalBench().samples(tmp_path)}


def test_ratings_stored_and_judged_give_the_official_means(samples):
    benchmark = MmhalBench()
    said = {
        "1": Said("x", {"rating": 6}),
        "2": Said("x", verdicts=("Rating: 3",)),
        "3": Said("x", {"rating": "Rating: 2"}),
        "4": Said("x", verdicts=(None,)),
    }
    rows = score_answers(benchmark, samples, said)
    found = benchmark.values(rows)
    assert (found["rating"], found["hallucination_rate"]) == (11 / 4, 0.5)
    assert found["rating/attribute"] == 6 and [row.parsed for row in rows] == ["6", "3", "2", None]
    lenient = MmhalBench(protocol="lenient")
    assert lenient.values(score_answers(lenient, samples, said))["rating"] == 11 / 3


def test_the_judge_is_asked_with_our_prompt_or_the_users(samples, tmp_path):
    (question,) = MmhalBench().questions(samples["1"], "an answer")
    assert "an answer" in question.prompt and "Cat" in question.prompt
    (tmp_path / "t.txt").write_text("{}-{}-{}-{}")
    (question,) = MmhalBench(template=str(tmp_path / "t.txt")).questions(samples["1"], "an answer")
    assert question.prompt == "Cat-q0-a-an answer"


def test_an_answer_without_a_rating_is_refused(samples):
    with pytest.raises(BadInput, match="--judge"):
        MmhalBench().score(samples["1"], Said("x"))
