"""POPE and RePOPE give the official numbers, to all digits."""

import json
from pathlib import Path
from typing import Any

import pytest
from places import cases, data_roots, published

from vlmtools.benchmarks._answers_file import read_answers
from vlmtools.benchmarks.base import Said, Total, load_benchmark, score_answers
from vlmtools.benchmarks.pope import Pope
from vlmtools.errors import BadInput, UnknownName
from vlmtools.evaluate.scoring import Scoring, items, score_file
from vlmtools.types import Sample

POPE: dict[str, dict[str, float]] = {
    "adversarial": {
        "accuracy": 0.697,
        "precision": 0.6439357038480272,
        "recall": 0.8813333333333333,
        "f1": 0.744159864902899,
        "yes_rate": 0.6843333333333333,
    },
    "popular": {
        "accuracy": 0.6953333333333334,
        "precision": 0.643486777668952,
        "recall": 0.876,
        "f1": 0.7419536984754376,
        "yes_rate": 0.6806666666666666,
    },
    "random": {
        "accuracy": 0.684,
        "precision": 0.6324376199616123,
        "recall": 0.8786666666666667,
        "f1": 0.7354910714285715,
        "yes_rate": 0.6946666666666667,
    },
}
REPOPE = {
    "adversarial": (2684, 177, {"accuracy": 0.7159952134024731, "f1": 0.6754785779398359}),
    "popular": (2727, 202, {"accuracy": 0.6942574257425742, "f1": 0.6435826408125578}),
    "random": (2774, 180, {"accuracy": 0.7093292212798766, "f1": 0.656648451730419}),
}


def question(number: int, label: str = "no", split: str = "random") -> Sample:
    return Sample(
        str(number), "Is there a dog in the image?", image="1.jpg", reference=label, extra={"split": split}
    )


def counted(text: str, label: str = "no", **setting: str) -> Any:
    return Pope(**setting).score(question(1, label), Said(text))  # type: ignore[arg-type]


def questions(answers: Path) -> Path:
    """The questions: beside the answers, else where the published ones are."""
    return answers.parent if any(answers.parent.glob("coco_pope_*")) else published("pope")


def splits(pattern: str) -> list[Any]:
    return cases(data_roots(), pattern)


@pytest.mark.golden
@pytest.mark.parametrize("path", splits("pope/synthetic_answers_*.jsonl*"))
def test_the_official_numbers_come_out_to_the_last_digit(path: Path) -> None:
    split = path.name.removesuffix(".gz").removesuffix(".jsonl").rpartition("_")[2]
    found = score_file(path, Pope(split=split), questions(path), setting=Scoring(n_boot=50))  # type: ignore[arg-type]
    assert {name: found.metrics[name].value for name in POPE[split]} == POPE[split]
    assert found.n == 3000
    for metric in found.metrics.values():
        assert metric.ci[0] <= metric.value <= metric.ci[1]


@pytest.mark.golden
@pytest.mark.parametrize("path", splits("pope/synthetic_answers_*.jsonl*"))
def test_repope_counts_its_own_labels_and_drops_what_it_cannot_read(path: Path) -> None:
    split = path.name.removesuffix(".gz").removesuffix(".jsonl").rpartition("_")[2]
    benchmark = Pope(split=split, protocol="repope")  # type: ignore[arg-type]
    found = score_file(path, benchmark, questions(path), setting=Scoring(n_boot=50))
    n, dropped, values = REPOPE[split]
    assert (found.n, found.unparsed) == (n, dropped)
    assert {name: found.metrics[name].value for name in values} == values


@pytest.mark.golden
@pytest.mark.parametrize("path", splits("pope/*answers*.jsonl*"))
def test_every_file_of_answers_that_is_found_is_scored(path: Path) -> None:
    split = next(name for name in POPE if name in path.name)
    for protocol in Pope.protocols:
        benchmark = Pope(split=split, protocol=protocol)  # type: ignore[arg-type]
        found = score_file(path, benchmark, questions(path), setting=Scoring(n_boot=20))
        assert all(0 <= metric.value <= 1 for metric in found.metrics.values())


@pytest.mark.golden
def test_three_splits_are_given_pooled_apart_and_as_a_mean() -> None:
    folder = published("pope")
    benchmark = Pope()
    samples = items(benchmark, folder)
    assert len(samples) == 9000 and "random/1" in samples
    said = {}
    for split in POPE:
        part = {id: one for id, one in samples.items() if id.startswith(f"{split}/")}
        found = list(folder.glob(f"synthetic_answers_{split}.jsonl*"))
        if not found:
            pytest.skip("no made-up answers here")
        said |= read_answers(found[0], benchmark, part).said
    values = benchmark.values(score_answers(benchmark, samples, said))
    for split, wanted in POPE.items():
        assert {name: values[f"{name}/{split}"] for name in wanted} == wanted
    assert values["f1_macro"] == pytest.approx(sum(wanted["f1"] for wanted in POPE.values()) / 3)
    assert values["accuracy"] == pytest.approx((0.697 + 0.6953333333333334 + 0.684) / 3)


def test_counts_printed_for_a_real_model_give_its_numbers() -> None:
    """LLaVA-1.5 on the older random split."""
    counts = {"tp": 1183.0, "fp": 31.0, "tn": 1379.0, "fn": 317.0, "kept": 2910.0, "said_yes": 1214.0}
    values = Pope().metrics(
        Total({name: pytest.importorskip("numpy").asarray(n) for name, n in counts.items()})
    )
    assert float(values["accuracy"]) == 0.8804123711340206
    assert float(values["precision"]) == 0.9744645799011532
    assert float(values["recall"]) == 0.7886666666666666
    assert float(values["f1"]) == 0.8717759764185703


@pytest.mark.parametrize(
    ("text", "official", "repope", "lenient"),
    [
        ("Yes", "yes", "yes", "yes"),
        ("No, there is not.", "no", "no", "no"),
        ("NO", "yes", "no", "no"),
        ("Nope.", "yes", "no", "no"),
        ("", "yes", None, None),
        ("There is not a dog in the image.", "no", "no", "no"),
        ("I am not sure.", "no", "no", None),
        ("I cannot know.", "yes", "no", None),
        ("The dog has brown eyes.", "yes", "yes", None),
        ("There is a dog. No cat though.", "yes", "no", "yes"),
        ("Sorry, I am unable to see.", "yes", None, None),
        ("Yes, no doubt", "no", "yes", "yes"),
    ],
)
def test_each_rule_reads_as_its_authors_do(
    text: str, official: str, repope: str | None, lenient: str | None
) -> None:
    read = [counted(text, protocol=name).detail["counted_as"] for name in ("official", "repope", "lenient")]
    assert read == [official, repope, lenient]


def test_an_unreadable_answer_is_told_as_unparsed_even_where_the_official_rule_says_yes() -> None:
    row = counted("")
    assert row.parsed is None and row.numbers["fp"] == 1 and row.correct is False


def test_a_dropped_answer_counts_nowhere() -> None:
    assert counted("maybe", protocol="repope").numbers == {"dropped": 1.0}


def test_a_lenient_unclear_answer_is_wrong_and_no_yes() -> None:
    row = counted("maybe", protocol="lenient")
    assert row.numbers["said_yes"] == row.numbers["right"] == row.numbers["fp"] == 0
    assert row.numbers["kept"] == 1


def test_the_yes_rate_is_of_the_answers_not_of_the_labels() -> None:
    rows = [counted("Yes", label) for label in ("yes", "no", "no", "no")]
    assert Pope().values(rows)["yes_rate"] == 1.0


def test_answers_without_any_yes_give_numbers_and_a_warning() -> None:
    rows = [counted("No", label) for label in ("yes", "no")]
    values = Pope().values(rows)
    assert values["precision"] == values["f1"] == 0.0 and values["accuracy"] == 0.5
    assert "0/0" in Pope().warnings(rows)[0]


def test_the_older_random_split_is_recognised() -> None:
    rows = [counted("Yes")] * 2910
    assert any("2,910" in line for line in Pope().warnings(rows))


def test_answers_of_other_questions_are_refused(tmp_path: Path) -> None:
    (tmp_path / "coco_pope_random.json").write_text(
        '{"question_id": 1, "image": "1.jpg", "text": "Is there a dog?", "label": "no"}\n'
    )
    answers = tmp_path / "answers.jsonl"
    answers.write_text(json.dumps({"question": "Is there a cat?", "answer": "No"}) + "\n")
    with pytest.raises(BadInput, match=r"answers.jsonl', line 1: the field 'question'"):
        score_file(answers, Pope(), tmp_path)


def test_an_unknown_protocol_names_those_there_are() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'repope'"):
        load_benchmark("pope", protocol="repop")


def test_settings_are_typed_behind_the_name() -> None:
    assert load_benchmark("pope:split=popular").settings == {"split": "popular", "source": "coco"}


def test_a_question_repeated_beside_its_answer_is_not_taken_for_the_answer(tmp_path: Path) -> None:
    question = {"question_id": 1, "image": "1.jpg", "text": "Is there no dog?", "label": "yes"}
    (tmp_path / "coco_pope_random.json").write_text(json.dumps(question) + "\n")
    answers = tmp_path / "answers.jsonl"
    answers.write_text(json.dumps({**question, "answer": "Yes"}) + "\n")
    found = score_file(answers, Pope(), tmp_path, setting=Scoring(n_boot=5))
    assert found.rows[0].answer == "Yes" and found.metrics["accuracy"].value == 1.0
