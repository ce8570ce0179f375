"""Captions and questions about drawn scenes: every score here was worked out by hand."""

from pathlib import Path
from typing import Any

import pytest

from vlmtools.benchmarks._evaluation import direction, summarise
from vlmtools.benchmarks.base import Benchmark, Row, Said, load_benchmark
from vlmtools.benchmarks.scenes import Scenes
from vlmtools.errors import BadInput, VlmToolsError
from vlmtools.reference.world import held_out
from vlmtools.types import Sample

BENCH = Scenes(n=2)


def caption_of(scene: str, *objects: str) -> Sample:
    return Sample(
        f"{scene}-caption",
        extra={"scene": scene, "task": "caption", "objects": list(objects), "theme": "farm"},
    )


def question(scene: str, sampling: str, number: int, truth: str) -> Sample:
    about = {"scene": scene, "task": "question", "sampling": sampling, "thing": "dog", "objects": ["dog"]}
    return Sample(
        f"{scene}-{sampling}-{number}", "Is there a dog in the image?", reference=truth, extra=about
    )


FARM, KITCHEN = caption_of("one", "dog", "cat", "car"), caption_of("two", "cup", "knife")
SAID = {
    FARM.id: "There is a dog on the left and a Bus in the middle. I can also see two dogs.",  # 19 words
    KITCHEN.id: "A cup and a knife.",  # 5 words
}


def rows_of(samples: list[Sample], said: dict[str, str]) -> list[Row]:
    return [BENCH.score(sample, Said(said[sample.id])) for sample in samples]


def test_captions_are_counted_as_by_hand() -> None:
    found = Scenes(pairs=0).values(rows_of([FARM, KITCHEN], SAID))
    precision, recall = 3 / 4, 3 / 5  # dog, cup, knife are true; bus is not; cat and car are missed
    assert found == pytest.approx(
        {
            "CHAIRi": 1 / 4,
            "CHAIRs": 1 / 2,
            "Recall": recall,
            "F1": 2 * precision * recall / (precision + recall),
            "Len": (19 + 5) / 2,
            "Rep": 0.0,
        }
    )


def test_a_row_tells_what_was_invented_and_what_was_missed() -> None:
    row = BENCH.score(FARM, Said(SAID[FARM.id]))
    assert row.detail == {"invented": ["bus"], "missed": ["cat", "car"]}
    assert (row.parsed, row.correct, row.cluster, row.id) == ("dog, bus", False, "one", "one-caption")
    assert BENCH.score(KITCHEN, Said(SAID[KITCHEN.id])).correct is True


def test_a_thing_named_twice_counts_once_and_a_name_inside_a_word_does_not_count() -> None:
    row = BENCH.score(FARM, Said("A dog, a DOG and dogs; a catalogue, a carton, bedding."))
    assert row.parsed == "dog" and row.numbers["named"] == 1 and row.numbers["invented"] == 0


def test_an_empty_caption_names_nothing_and_misses_everything() -> None:
    found = Scenes(pairs=0).values([BENCH.score(FARM, Said(""))])
    assert (found["CHAIRi"], found["CHAIRs"], found["Recall"], found["F1"], found["Len"]) == (0, 0, 0, 0, 0)


def test_a_caption_that_goes_round_in_circles_is_counted_as_such() -> None:
    assert BENCH.score(FARM, Said("There is a dog on the left. " * 4)).numbers["degenerate"] == 1


QUESTIONS = [
    (question("one", "random", 0, "yes"), "Yes."),
    (question("one", "random", 1, "no"), "Yes, there is."),
    (question("one", "popular", 0, "yes"), "yes"),
    (question("one", "popular", 1, "no"), "No."),
    (question("two", "adversarial", 0, "yes"), "It is hard to say."),
    (question("two", "adversarial", 1, "no"), "yes"),
]


def test_questions_are_counted_whole_and_by_how_the_absent_thing_was_chosen() -> None:
    rows = [BENCH.score(sample, Said(text)) for sample, text in QUESTIONS]
    assert Scenes(captions=False).values(rows) == pytest.approx(
        {
            "accuracy": 3 / 6,
            "yes_rate": 4 / 6,
            "accuracy/random": 1 / 2,
            "accuracy/popular": 2 / 2,
            "accuracy/adversarial": 0.0,
        }
    )
    assert [row.correct for row in rows] == [True, False, True, True, False, False]
    assert rows[4].parsed is None, "an answer without yes or no is wrong and says so"


def test_captions_and_questions_do_not_leak_into_each_other() -> None:
    rows = rows_of([FARM, KITCHEN], SAID) + [BENCH.score(sample, Said(text)) for sample, text in QUESTIONS]
    together = BENCH.values(rows)
    apart = Scenes(pairs=0).values(rows[:2]) | Scenes(captions=False).values(rows[2:])
    assert together == apart


def test_intervals_take_a_scene_as_one_piece() -> None:
    rows = [BENCH.score(sample, Said(text)) for sample, text in QUESTIONS]
    found = summarise(Scenes(captions=False), rows, n_boot=400)
    # two scenes: all of one (3/4), all of the other (0/2), or both (3/6); nothing in between
    assert found["accuracy"].ci == (0.0, 0.75)
    assert list(found)[:2] == ["accuracy", "yes_rate"]


@pytest.mark.parametrize(
    ("metric", "wanted"),
    [("CHAIRi", -1), ("Rep", -1), ("Recall", 1), ("accuracy/popular", 1), ("yes_rate", 0), ("Len", 0)],
)
def test_which_direction_is_better(metric: str, wanted: int) -> None:
    assert direction(BENCH, metric) == wanted


LONG = [caption_of("one", "dog", "cat"), caption_of("two", "cup", "knife")]
BASELINE = {"one-caption": "A bus. A dog. A cat.", "two-caption": "A cup. A knife."}
SHORT = {"one-caption": "A dog.", "two-caption": "A cup."}


def test_the_baseline_is_cut_to_the_same_recall() -> None:
    samples = {sample.id: sample for sample in LONG}
    found = BENCH.controls(samples, rows_of(LONG, SHORT), rows_of(LONG, BASELINE))
    # half of the four things are recalled; the first caption gets its second sentence, the second does not
    assert found["cut_by_sentences"] == pytest.approx(
        {"most": 1.5, "CHAIRi": 1 / 3, "CHAIRs": 1 / 2, "Recall": 2 / 4, "Len": (4 + 2) / 2}
    )
    # "A bus. A dog." and "A cup. A"
    assert found["cut_by_words"] == pytest.approx(
        {"most": 3.5, "CHAIRi": 1 / 3, "CHAIRs": 1 / 2, "Recall": 2 / 4, "Len": (4 + 3) / 2}
    )


def test_captions_no_better_than_the_baseline_cut_nothing() -> None:
    samples = {sample.id: sample for sample in LONG}
    found = BENCH.controls(samples, rows_of(LONG, BASELINE), rows_of(LONG, BASELINE))
    whole = Scenes(pairs=0).values(rows_of(LONG, BASELINE))
    for unit in ("cut_by_words", "cut_by_sentences"):
        assert found[unit] | {"most": 0} == {"most": 0} | {
            name: whole[name] for name in found[unit] if name != "most"
        }


def test_without_a_baseline_caption_there_is_no_control() -> None:
    sample, text = QUESTIONS[0]
    rows = [BENCH.score(sample, Said(text))]
    assert BENCH.controls({sample.id: sample}, rows, rows) == {}
    assert BENCH.controls({FARM.id: FARM}, [BENCH.score(FARM, Said("A dog."))], []) == {}


def answered(bench: Benchmark, samples: list[Sample], say: Any) -> dict[str, float]:
    return dict(bench.values([bench.score(sample, Said(say(sample))) for sample in samples]))


def truthful(sample: Sample) -> str:
    return ", ".join(sample.extra["objects"]) if sample.extra["task"] == "caption" else f"{sample.reference}."


def test_the_truth_scores_best_and_yes_to_everything_scores_a_half(tmp_path: Path) -> None:
    bench = Scenes(n=3, pairs=2)
    samples = list(bench.samples(tmp_path))
    best = answered(bench, samples, truthful)
    assert best["CHAIRi"] == 0 and best["Recall"] == best["F1"] == best["accuracy"] == 1
    assert best["yes_rate"] == 0.5
    yes = answered(bench, samples, lambda _: "Yes.")
    assert yes["accuracy"] == 0.5 and yes["yes_rate"] == 1 and yes["Recall"] == 0


def test_each_scene_is_asked_one_caption_and_balanced_questions(tmp_path: Path) -> None:
    samples = list(Scenes(n=2, pairs=1).samples(tmp_path))
    assert len({sample.id for sample in samples}) == len(samples) == 2 * (1 + 3 * 2)
    for sample in samples:
        if sample.extra["task"] == "question":
            assert (sample.reference == "yes") == (sample.extra["thing"] in sample.extra["objects"])
    assert sum(sample.reference == "yes" for sample in samples) == 6
    assert len(list(tmp_path.glob("*.png"))) == 2 and all(Path(str(s.image)).exists() for s in samples)


def test_parts_can_be_left_out(tmp_path: Path) -> None:
    assert {s.extra["task"] for s in Scenes(n=1, pairs=0).samples(tmp_path)} == {"caption"}
    assert {s.extra["task"] for s in Scenes(n=1, captions=False).samples(tmp_path)} == {"question"}
    assert set(Scenes(pairs=0).values([])) == {"CHAIRi", "CHAIRs", "Recall", "F1", "Len", "Rep"}


def test_scenes_from_a_number_on_are_those_of_the_longer_list(tmp_path: Path) -> None:
    longer = [sample.id for sample in Scenes(n=4, pairs=0).samples(tmp_path)]
    assert [sample.id for sample in Scenes(n=2, start=2, pairs=0).samples(tmp_path)] == longer[2:]


@pytest.mark.parametrize("split", ["test", "novel"])
def test_only_novel_scenes_show_pairs_that_training_never_showed(split: Any, tmp_path: Path) -> None:
    for sample in Scenes(n=6, split=split, pairs=0).samples(tmp_path):
        assert sample.id.startswith(split)
        things = sample.extra["objects"]
        assert any(held_out(a, b) for a in things for b in things if a != b) == (split == "novel")


@pytest.mark.parametrize("settings", ["n=0", "pairs=4", "pairs=-1", "pairs=0,captions=false", "start=-1"])
def test_settings_that_ask_nothing_are_refused(settings: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput):
        list(load_benchmark(f"scenes:{settings}").samples(tmp_path))


@pytest.mark.parametrize("settings", ["n=many", "split=train", "captions=perhaps", "colour=red"])
def test_settings_of_another_kind_are_refused(settings: str, tmp_path: Path) -> None:
    with pytest.raises(VlmToolsError):
        list(load_benchmark(f"scenes:{settings}").samples(tmp_path))
