"""VidHalluc, CMM, AVHBench and AVHalluBench, on small files in the published layouts."""

import json
from pathlib import Path
from typing import Any

import pytest
from places import cases, data_roots

from vlmtools.benchmarks._answers_file import read_answers
from vlmtools.benchmarks.base import Benchmark, Said, load_benchmark, score_answers
from vlmtools.evaluate.scoring import items

MCQ = {
    "v": {"v_clip_1": {"Question": "What?", "Choices": {"A": "runs", "B": "swims"}, "Correct Answer": "B"}}
}
BQA = {"v": [{"q": "Runs?", "a": {"v_clip_1": "Yes", "v_clip_2": "No"}}]}
TSH = {"0": {"video": "w", "Question": "Action A: runs. Action B: swims.", "Correct Answer": "AB"}}
STH = {
    "x": {"Scene change": "Yes", "Locations": "from a hall to a yard."},
    "y": {"Scene change": "No", "Locations": "None"},
}


def write(folder: Path, **files: Any) -> Path:
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def values(bench: Benchmark, data: Path, said: dict[str, str]) -> dict[str, float]:
    samples = items(bench, data)
    assert set(said) == set(samples)
    return dict(bench.values(score_answers(bench, samples, {id: Said(text) for id, text in said.items()})))


def test_vidhalluc_asks_in_the_published_words_and_scores_each_task_by_its_rule(tmp_path: Path) -> None:
    data = write(tmp_path, ach_mcq=MCQ, ach_binaryqa=BQA, tsh=TSH, sth=STH)
    bench = load_benchmark("vidhalluc")
    prompts = {id: one.prompt for id, one in items(bench, data).items()}
    assert prompts["mcq/v/v_clip_1"].endswith("(e.g., ABCD)\nChoices:\nA. runs\nB. swims\n")
    assert prompts["bqa/v/0/v_clip_1"] == "Runs? Only answer with a single word 'Yes' or 'No'."
    said = {
        "mcq/v/v_clip_1": "B. swims",
        "bqa/v/0/v_clip_1": "Yes.",
        "bqa/v/0/v_clip_2": "Yes",
        "tsh/0": "AB.",
        "sth/x": "Scene change: Yes, Locations: from a hall to a yard.",
        "sth/y": "Scene change: No, Locations: None",
    }
    found = values(bench, data, said)
    assert (found["mcq"], found["bqa"], found["tsh"]) == (1, 0, 0)
    assert (found["mcc"], found["scene_classification"]) == (1, 1)
    assert found["unread"] == pytest.approx(1 / 6)
    assert values(load_benchmark("vidhalluc", protocol="lenient"), data, said)["tsh"] == 1


def test_answers_in_the_layouts_of_the_four_vidhalluc_programs_are_read(tmp_path: Path) -> None:
    data = write(tmp_path, ach_mcq=MCQ, ach_binaryqa=BQA, tsh=TSH, sth=STH)
    answers = {
        "mcq": {"v": {"v_clip_1": {"Model Answer": "B"}}},
        "bqa": {"v": [{"q": "Runs?", "a": {"v_clip_1": "Yes", "v_clip_2": "No"}}]},
        "tsh": {"0": {"video": "w", "Model Answer": "ab"}},
        "sth": {"x": "Scene change: Yes, Locations: None", "y": "Scene change: No"},
    }
    for task, content in answers.items():
        path = tmp_path / f"answers_{task}.json"
        path.write_text(json.dumps(content))
        bench = load_benchmark(f"vidhalluc:task={task}")
        samples = items(bench, data)
        read = read_answers(path, bench, samples)
        assert not read.missing
        found = bench.values(score_answers(bench, samples, read.said))
        assert found["mcc" if task == "sth" else task] == 1


def test_cmm_reads_the_published_lines_and_answers_without_ids(tmp_path: Path) -> None:
    rows = [
        {"question": "Did you see a river in the video?", "answer": "yes", "sub_category": "visual-language",
         "granularity": "object-level", "video_path": "./a.mp4", "audio_path": None, "pred": "Yes, there is"},
        {"question": "Did you hear a dog in the audio?", "answer": "no", "sub_category": "audio-language",
         "granularity": "event-level", "video_path": None, "audio_path": "./a.wav", "pred": "Nothing of it"},
    ]  # fmt: skip
    path = tmp_path / "final_output.json"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    bench = load_benchmark("cmm")
    samples = items(bench, path)
    assert [one.modality for one in samples.values()] == [("video",), ("audio",)]
    read = read_answers(path, bench, samples).said
    found = bench.values(score_answers(bench, samples, read))
    assert (found["perception"], found["resistance"], found["accuracy"]) == (1, 1, 1)
    strict = load_benchmark("cmm", protocol="strict")
    assert strict.values(score_answers(strict, samples, read))["resistance/audio-language"] == 0
    assert len(items(load_benchmark("cmm:show=video"), path)) == 1


def test_avhbench_scores_each_task_and_leaves_captions_out(tmp_path: Path) -> None:
    seen, heard = "Audio-driven Video Hallucination", "Video-driven Audio Hallucination"
    rows = [
        {"video_id": "00191", "task": heard, "text": "Is the couch making sound?", "label": "No"},
        {"video_id": "00191", "task": seen, "text": "Is the man visible?", "label": "Yes"},
        {"video_id": "00191", "task": "AV Captioning", "text": "Describe.", "label": "A man."},
    ]
    data = write(tmp_path, qa=rows)
    bench = load_benchmark("avhbench")
    found = values(bench, data, {"00191/1": "Yes.", "00191/2": "yes"})
    assert (found["accuracy"], found["yes_rate"], found[f"recall/{seen}"]) == (0.5, 1, 1)
    assert found[f"accuracy/{heard}"] == 0
    both = [one.modality for one in items(bench, data).values()]
    assert both == [("video", "audio")] * 2
    alone = load_benchmark("avhbench:show=video")
    assert [one.modality for one in items(alone, data).values()] == [("video",)] * 2
    assert "ablation" in alone.warnings(())[0]


@pytest.mark.golden
@pytest.mark.parametrize("path", cases(data_roots(), "avhallubench/annotations_dedup*.json*"))
def test_every_published_item_of_avhallubench_has_a_reference_for_each_task(path: Path) -> None:
    n_words = {}
    for task in ("visual", "audio", "audio-visual"):
        samples = items(load_benchmark(f"avhallubench:task={task}"), path)
        n_words[task] = sum(len(str(one.reference).split()) for one in samples.values())
        assert len(samples) >= 100
    assert n_words["audio-visual"] == n_words["visual"] + n_words["audio"]


def test_refcheck_is_the_share_of_refused_sentences_and_an_unread_verdict_counts_half(tmp_path: Path) -> None:
    rows = [{"video_id": "v", "visual_description": "A dog.", "audio_description": "It barks."}]
    data = write(tmp_path, data=rows)
    bench = load_benchmark("avhallubench")
    (sample,) = items(bench, data).values()
    asked = bench.questions(sample, "A dog runs. A cat sits. Perhaps.")
    assert [one.prompt.splitlines()[2] for one in asked] == [
        "Sentence: A dog runs.", "Sentence: A cat sits.", "Sentence: Perhaps."
    ]  # fmt: skip
    said = Said("A dog runs. A cat sits. Perhaps.", verdicts=("Yes", " No.", "Maybe"))
    found = bench.values([bench.score(sample, said)])
    assert (found["refcheck"], found["unread"], found["words"]) == (0.5, pytest.approx(1 / 3), 7)
    assert "Without a judge" in bench.warnings([bench.score(sample, Said("A dog."))])[0]
