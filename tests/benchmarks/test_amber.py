import gzip
import json
import random

import pytest
import tiny_data
from places import published

from vlmtools.benchmarks.amber import Amber
from vlmtools.benchmarks.base import Said, load_benchmark, score_answers
from vlmtools.errors import BadInput
from vlmtools.evaluate.scoring import items


def answers(name):
    rows = json.loads(gzip.decompress(published(f"amber/{name}.json.gz").read_bytes()))
    return {str(row["id"]): Said(row["response"]) for row in rows}


def scored(benchmark, said):
    samples = {sample.id: sample for sample in benchmark.samples(published("amber"))}
    return score_answers(benchmark, samples, said)


def percent(values):
    return {name: round(100 * value, 1) for name, value in values.items()}


@pytest.mark.golden
def test_both_tasks_give_the_official_numbers():
    benchmark = Amber()
    rows = scored(benchmark, answers("synthetic_generative") | answers("synthetic_discriminative"))
    found = percent(benchmark.values(rows))
    assert {name: found[name] for name in benchmark.headline} == {
        "chair": 21.9, "cover": 56.6, "hal": 59.7, "cog": 14.6,
        "accuracy": 69.6, "precision": 87.0, "recall": 69.7, "f1": 77.4,
    }  # fmt: skip
    parts = {
        "existence": 81.6,
        "attribute": 73.6,
        "state": 73.7,
        "number": 73.2,
        "action": 73.7,
        "relation": 71.5,
    }
    assert {part: found[f"f1/{part}"] for part in parts} == parts
    assert any("exact-match" in warning for warning in benchmark.warnings(rows))


@pytest.mark.golden
def test_the_order_of_rows_changes_no_metric():
    benchmark = Amber(task="relation")
    rows = scored(benchmark, answers("synthetic_discriminative"))
    assert len(rows) == 1664
    assert benchmark.values(random.Random(0).sample(rows, len(rows))) == benchmark.values(rows)


def small(folder):
    rows = [
        {"id": 1, "type": "generative", "truth": ["dog"], "hallu": ["cat"]},
        {"id": 2, "type": "discriminative-relation", "truth": "yes"},
        {"id": 3, "type": "relation", "truth": "no"},
    ]
    (folder / "annotations.json").write_text(json.dumps(rows))
    (folder / "relation.json").write_text(json.dumps({"dog": [], "cat": []}))
    (folder / "safe_words.txt").write_text("light\n")
    return folder


def test_prompts_and_pictures_come_from_the_query_file(tmp_path):
    folder = small(tmp_path)
    assert [sample.prompt for sample in Amber().samples(folder)] == ["Describe this image.", "", ""]
    queries = [{"id": id, "image": "AMBER_1.jpg", "query": f"q{id}"} for id in (1, 2, 3)]
    (folder / "query_all.json").write_text(json.dumps(queries))
    assert [(s.prompt, s.image) for s in Amber().samples(folder)] == [
        (f"q{id}", "AMBER_1.jpg") for id in (1, 2, 3)
    ]


def test_other_words_than_yes_and_no_are_wrong_officially_and_said_so(tmp_path):
    samples = {sample.id: sample for sample in Amber(task="relation").samples(small(tmp_path))}
    said = {"2": Said("Yes."), "3": Said("no")}
    official, lenient = Amber(task="relation"), Amber(task="relation", protocol="lenient")
    rows = score_answers(official, samples, said)
    assert official.values(rows)["accuracy"] == 0 and [row.parsed for row in rows] == [None, None]
    assert any("2 answers" in warning for warning in official.warnings(rows))
    assert lenient.values(score_answers(lenient, samples, said))["accuracy"] == 1


def test_vectors_make_near_words_count(tmp_path):
    folder = small(tmp_path)
    (folder / "vectors.txt").write_text("dog 1 0\ncat 1 0.1\n")
    said = {"1": Said("a cat")}
    plain, near = Amber(task="generative"), Amber(task="generative", vectors=str(folder / "vectors.txt"))
    samples = {sample.id: sample for sample in plain.samples(folder)}
    assert plain.values(score_answers(plain, samples, said))["chair"] == 1
    assert near.values(score_answers(near, samples, said))["chair"] == 0


def test_a_file_of_another_layout_is_refused(tmp_path):
    folder = small(tmp_path)
    (folder / "annotations.json").write_text('[{"id": 1, "type": "relation", "truth": "maybe"}]')
    with pytest.raises(BadInput, match="entry 0"):
        list(Amber().samples(folder))
    with pytest.raises(BadInput, match="AMBER"):
        list(Amber().samples(None))


def test_the_official_table_stands_beside_the_plain_numbers_as_it_is_printed(tmp_path):
    made = tiny_data.tiny("amber", tmp_path)
    benchmark = load_benchmark("amber:task=existence")
    samples = items(benchmark, made.data)
    said = {"1": Said("Yes"), "2": Said("No"), "3": Said("no")}
    rows = score_answers(benchmark, samples, said)
    found = benchmark.controls(samples, rows, ())["as_printed"]
    # 2 of 3 right, 1 of 1 No right, 1 of 1 no found; all denominators begin at .001
    assert found == {"accuracy": 66.6, "precision": 99.9, "recall": 99.9, "f1": 99.9}
    assert benchmark.values(rows)["precision"] == 1
