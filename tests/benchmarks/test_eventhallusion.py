import json
from pathlib import Path
from typing import Any

import pytest
from places import cases, data_roots

from vlmtools.benchmarks._answers_file import read_answers
from vlmtools.benchmarks._files import read_json
from vlmtools.benchmarks.base import Said, load_benchmark, score_answers
from vlmtools.evaluate.scoring import items
from vlmtools.scoring import eventhallusion as rules

VIDEO = {
    "id": "entire_001",
    "event_info": {"caption": "A dog barks.", "unexpected": "It falls."},
    "questions": [{"question": "Does it play?", "answer": "No."}],
}


@pytest.mark.golden
@pytest.mark.parametrize("path", cases(data_roots(), "**/eventhallusion/*.json*"))
def test_every_published_file_scores_as_the_pure_functions_do(path: Path) -> None:
    bench = load_benchmark("eventhallusion")
    samples = items(bench, path)
    rows = score_answers(bench, samples, read_answers(path, bench, samples).said)
    found = bench.values(rows)
    expected = rules.score({name: list(map(video, rows_of(part))) for name, part in read_json(path).items()})
    assert found["questions"] == expected.overall.questions
    assert found["descriptions"] == expected.overall.descriptions
    assert found["unread_questions"] == expected.overall.unread_questions
    assert found["unread_judgements"] == pytest.approx(expected.overall.unread_judgements)
    for name, split in expected.splits.items():
        assert found[f"questions/{name}"] == split.questions
        assert found[f"descriptions/{name}"] == split.descriptions


def rows_of(part: Any) -> list[Any]:
    return list(part.values()) if isinstance(part, dict) else part


def video(row: Any) -> rules.Video:
    return rules.Video([(one["answer"], one["prediction"]) for one in row["qa"]], row["judgement"])


def written(folder: Path) -> Path:
    (folder / "entire_questions.json").write_text(json.dumps([VIDEO]))
    return folder


def test_questions_and_the_description_are_asked_in_the_published_words(tmp_path: Path) -> None:
    samples = items(load_benchmark("eventhallusion:split=entire"), written(tmp_path))
    assert {id: one.prompt for id, one in samples.items()} == {
        "entire_001/0": "Does it play?\nPlease answer yes or no:",
        "entire_001/description": "Please describe this video in detail.",
    }
    assert {one.video for one in samples.values()} == {"entire/entire_001.mp4"}


def test_a_judge_is_asked_about_descriptions_and_its_verdict_counts(tmp_path: Path) -> None:
    bench = load_benchmark("eventhallusion:split=entire")
    samples = items(bench, written(tmp_path))
    question, described = samples.values()
    assert bench.questions(question, "No.") == ()
    (asked,) = bench.questions(described, "A dog {barks}.")
    assert "A dog {barks}." in asked.prompt and "A dog barks." in asked.prompt
    said = {
        question.id: Said("No, it does not"),
        described.id: Said("A dog.", verdicts=("**Yes.** It does",)),
    }
    found = bench.values(score_answers(bench, samples, said))
    assert (found["questions"], found["descriptions"]) == (1, 1)
    refused = said | {described.id: Said("A dog.", verdicts=(None,))}
    found = bench.values(score_answers(bench, samples, refused))
    assert (found["descriptions"], found["unread_judgements"]) == (0, 1)


def test_descriptions_nobody_judged_are_not_scored_and_said_to_be_so(tmp_path: Path) -> None:
    bench = load_benchmark("eventhallusion:split=entire")
    samples = items(bench, written(tmp_path))
    rows = score_answers(bench, samples, {id: Said(" No") for id in samples})
    assert "1 descriptions have no verdict" in bench.warnings(rows)[0]
    assert bench.values(rows)["questions"] == 0
    lenient = load_benchmark("eventhallusion:split=entire", protocol="lenient")
    assert (
        lenient.values(score_answers(lenient, samples, {id: Said(" No") for id in samples}))["questions"] == 1
    )
