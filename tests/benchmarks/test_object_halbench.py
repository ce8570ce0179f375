import json

import pytest

from vlmtools.benchmarks.base import Said, score_answers
from vlmtools.benchmarks.object_halbench import ObjectHalbench
from vlmtools.errors import BadInput

LONG = "There is a dog on a chair."


@pytest.fixture
def data(tmp_path):
    rows = [{"image_id": 42, "question": f"q{n}"} for n in range(3)]
    (tmp_path / "obj_halbench_300.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "gt_objects.json").write_text(json.dumps({"42": ["dog"]}))
    return tmp_path


def test_rates_follow_from_extracted_objects(data):
    benchmark = ObjectHalbench()
    samples = {sample.id: sample for sample in benchmark.samples(data)}
    said = {
        "1": Said(LONG, {"extract_objs": ["dog", "chair"]}),
        "2": Said(LONG, verdicts=('["dog"]',)),
        "3": Said("A dog"),
    }
    rows = score_answers(benchmark, samples, said)
    found = benchmark.values(rows)
    assert (found["response"], found["response_all"], found["mention"]) == (1 / 2, 1 / 3, 1 / 3)
    assert rows[0].detail == {"hallucinated": [["chair", "chair"]]}


def test_an_unread_reply_names_nothing_or_is_left_out(data):
    samples = {sample.id: sample for sample in ObjectHalbench().samples(data)}
    said = {"1": Said(LONG, verdicts=("a dog",)), "2": Said(LONG, verdicts=('["chair"]',))}
    for protocol, rate in (("official", 0.5), ("lenient", 1.0)):
        benchmark = ObjectHalbench(protocol=protocol)
        rows = score_answers(benchmark, samples, said)
        assert rows[0].parsed is None and benchmark.values(rows)["response_all"] == rate


def test_short_answers_cost_no_question_and_long_ones_need_a_judge(data):
    benchmark = ObjectHalbench()
    sample = next(iter(benchmark.samples(data)))
    assert benchmark.questions(sample, "A dog") == () and len(benchmark.questions(sample, LONG)) == 1
    with pytest.raises(BadInput, match="extract_objs"):
        benchmark.score(sample, Said(LONG))
