import json

import pytest

from vlmtools.benchmarks.base import Said, score_answers
from vlmtools.benchmarks.cv_bench import CvBench
from vlmtools.errors import BadInput


def row(idx, source, task):
    return {"idx": idx, "source": source, "task": task, "prompt": "How many? (A) 1 (B) 2", "question": "How many?",
            "choices": ["1", "2"], "answer": "(B)", "filename": f"img/{idx}.png"}  # fmt: skip


@pytest.fixture
def data(tmp_path):
    two = [row(0, "ADE20K", "Count"), row(1, "COCO", "Count"), row(2, "COCO", "Relation")]
    (tmp_path / "test_2d.jsonl").write_text("\n".join(map(json.dumps, two)) + "\n")
    (tmp_path / "test_3d.jsonl").write_text(json.dumps(row(3, "Omni3D", "Depth")) + "\n")
    return tmp_path


def test_the_halves_weigh_alike(data):
    benchmark = CvBench()
    samples = {sample.id: sample for sample in benchmark.samples(data)}
    said = {"0": Said("(B) 2"), "1": Said("A"), "2": Said("A"), "3": Said("B")}
    found = benchmark.values(score_answers(benchmark, samples, said))
    assert (found["2d"], found["3d"], found["overall"], found["accuracy"]) == (0.5, 1.0, 0.75, 0.5)


def test_the_text_of_a_choice_is_read_by_the_lenient_rule_only(data):
    sample = next(iter(CvBench().samples(data)))
    assert CvBench().score(sample, Said("There are 2.")).parsed is None
    assert CvBench(protocol="lenient").score(sample, Said("There are 2.")).correct


def test_a_strange_source_is_refused(data):
    (data / "test_3d.jsonl").write_text(json.dumps(row(3, "KITTI", "Depth")))
    with pytest.raises(BadInput, match="KITTI"):
        list(CvBench().samples(data))
