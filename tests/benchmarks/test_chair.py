"""CHAIR gives the official numbers, and never comes without what makes a low one cheap."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from places import cases, data_roots, published

from vlmtools.benchmarks._captions import degenerate, recall_matched, repetition, whole_sentences
from vlmtools.benchmarks.base import Said, score_answers
from vlmtools.benchmarks.chair import Chair
from vlmtools.errors import BadInput
from vlmtools.evaluate.scoring import Scoring, score_file
from vlmtools.types import Sample

QUICK = Scoring("image_id", "caption", n_boot=20)


def rows_of(captions: dict[str, str], truth: dict[str, list[str]], **setting: str) -> Any:
    samples = {id: Sample(id, extra={"objects": objects}) for id, objects in truth.items()}
    return score_answers(Chair(**setting), samples, {id: Said(text) for id, text in captions.items()})


def truth(path: Path) -> Path:
    """The pictures' objects: beside the captions, else where the published ones are."""
    beside = sorted(path.parents[1].glob("*gt_objects*"))
    return beside[0] if beside else published("chair/coco_gt_objects.json.gz")


def read(path: Path) -> Any:
    raw = path.read_bytes()
    return (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode()


@pytest.mark.golden
@pytest.mark.parametrize("path", cases(data_roots(), "chair/captions/*.jsonl*"))
def test_every_caption_file_gives_the_official_numbers(path: Path) -> None:
    beside = path.parents[1] / "expected_overall_full_precision.json"
    known = beside if beside.is_file() else published("chair/expected_overall_full_precision.json")
    expected = json.loads(known.read_text())
    wanted = expected.get(path.name.removesuffix(".gz")) or expected.get(path.name)
    if wanted is None:
        pytest.skip(f"no expected numbers for {path.name}")
    found = score_file(path, Chair(), truth(path), setting=QUICK)
    assert {name: found.metrics[name].value for name in wanted} == pytest.approx(wanted, rel=0, abs=1e-15)


@pytest.mark.golden
@pytest.mark.parametrize("path", cases(data_roots(), "chair/expected_per_caption/*.jsonl*"))
def test_every_caption_is_read_as_the_official_program_reads_it(path: Path) -> None:
    captions = path.parents[1] / "captions" / path.name
    found = score_file(captions, Chair(), truth(path), setting=QUICK)
    rows = {row.id: row.detail for row in found.rows}
    for line in read(path).splitlines():
        wanted = json.loads(line)
        detail = rows[str(wanted["image_id"])]
        for name in ("generated", "hallucinated", "CHAIRs", "CHAIRi", "Recall"):
            assert detail[name] == wanted[name], (wanted["image_id"], name)


def test_a_caption_is_counted_by_hand() -> None:
    rows = rows_of({"1": "A dog, a dog and a cat on a bench."}, {"1": ["dog", "bench", "person"]})
    values = Chair().values(rows)
    assert values["CHAIRs"] == 1 and values["CHAIRi"] == 1 / 4 and values["Recall"] == 2 / 3
    assert values["Precision"] == 2 / 3 and values["F1"] == pytest.approx(2 / 3)
    assert values["Len"] == 10 and values["Rep"] == 0 and rows[0].correct is False


def test_captions_that_say_nothing_are_told(tmp_path: Path) -> None:
    rows = rows_of({"1": "Nice.", "2": "A dog."}, {"1": ["dog"], "2": ["dog"]})
    assert (
        Chair().values(rows)["CHAIRs"] == 0 and "1 of 2 captions name no object" in Chair().warnings(rows)[0]
    )


def test_a_caption_that_goes_round_in_circles_is_degenerate() -> None:
    assert degenerate("There is a dog on the left. " * 6)
    assert not degenerate("A dog lies on a bench in front of a red house while two people walk past it.")
    assert repetition("one two three") == 0.0


def test_a_cut_last_sentence_is_dropped_only_when_asked() -> None:
    text = "A dog lies here. Next to it sits a cat and a"
    assert whole_sentences(text) == "A dog lies here."
    assert whole_sentences("A dog and a") == "A dog and a"
    truth = {"1": ["dog"]}
    assert Chair().values(rows_of({"1": text}, truth))["CHAIRs"] == 1
    dropped = rows_of({"1": text}, truth, protocol="whole-sentences")
    assert Chair().values(dropped)["CHAIRs"] == 0


def test_the_baseline_is_cut_to_the_same_recall_and_not_below_by_more_than_one_unit() -> None:
    captions = {f"{n}": "A dog and a cat. There is a bench. A car too." for n in range(10)}
    truth = {id: ["dog", "cat", "bench", "car"] for id in captions}
    for recall in (0.0, 0.1, 0.25, 0.5, 0.625, 0.9, 1.0):
        for cut in recall_matched(captions, truth, recall).values():
            reached = Chair().values(rows_of(dict(cut.captions), truth))["Recall"]
            assert reached <= recall + 1e-9 and recall - reached <= 2 / 40 + 1e-9, (recall, cut.most)


def test_captions_that_recall_less_than_wanted_stay_whole() -> None:
    captions = {"1": "A dog."}
    cut = recall_matched(captions, {"1": ["dog", "cat"]}, 0.9)
    assert cut["cut_by_words"].captions == captions


def test_controls_put_the_baseline_beside_the_answers(tmp_path: Path) -> None:
    truth, ours, base = tmp_path / "t.json", tmp_path / "ours.jsonl", tmp_path / "base.jsonl"
    truth.write_text(json.dumps({"1": ["dog"], "2": ["dog", "cat"]}))
    ours.write_text('{"image_id": 1, "caption": "A dog."}\n{"image_id": 2, "caption": "A dog."}\n')
    base.write_text(
        '{"image_id": 1, "caption": "A dog and a car."}\n{"image_id": 2, "caption": "A dog, a cat."}\n'
    )
    found = score_file(ours, Chair(), truth, baseline=base, setting=QUICK)
    controls = found.record["controls"]
    assert controls["n"] == 2 and controls["baseline"]["CHAIRs"] == 0.5
    assert controls["cut_by_words"]["Recall"] == controls["ours"]["Recall"] == 2 / 3


def test_ids_may_be_numbers_names_or_files(tmp_path: Path) -> None:
    truth, answers = tmp_path / "t.json", tmp_path / "a.jsonl"
    truth.write_text(json.dumps({"42": ["dog"], "7": []}))
    answers.write_text(
        '{"image_id": "COCO_val2014_000000000042.jpg", "caption": "A cat."}\n{"image_id": 7, "caption": "A dog."}\n'
    )
    found = score_file(answers, Chair(), truth, setting=Scoring(n_boot=20))
    assert found.n == 2 and found.metrics["CHAIRs"].value == 1


def test_a_picture_without_truth_is_refused(tmp_path: Path) -> None:
    truth, answers = tmp_path / "t.json", tmp_path / "a.jsonl"
    truth.write_text(json.dumps({"42": ["dog"]}))
    answers.write_text('{"image_id": 43, "caption": "A cat."}\n')
    with pytest.raises(BadInput, match=r"line 1: the id '43' is no item"):
        score_file(answers, Chair(), truth, setting=Scoring(n_boot=20))


def test_coco_annotations_are_read_as_they_are_published(tmp_path: Path) -> None:
    (tmp_path / "instances_val2014.json").write_text(
        json.dumps(
            {"categories": [{"id": 1, "name": "dog"}], "annotations": [{"image_id": 5, "category_id": 1}]}
        )
    )
    (tmp_path / "captions_val2014.json").write_text(
        json.dumps({"annotations": [{"image_id": 5, "caption": "A dog beside a bench."}]})
    )
    [sample] = Chair().samples(tmp_path)
    assert sample.image == "COCO_val2014_000000000005.jpg" and sample.extra["objects"] == ["bench", "dog"]
