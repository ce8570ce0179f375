import gzip
import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from places import cases, data_roots, published

from vlmtools.errors import BadInput, NotInstalled, UnknownName
from vlmtools.scoring import _amber_nouns, amber

KNOWN = amber.vocabulary({"dog": ["puppy"], "cat": [], "table": ["desk"], "sky": [], "light": []}, "light\n")


def read(path):
    return json.loads(gzip.decompress(path.read_bytes()))


def official_vocabulary(folder):
    safe = (folder / "safe_words.txt").read_text()
    return amber.vocabulary(read(folder / "relation.json.gz"), safe)


def described(path):
    known = official_vocabulary(path.parent)
    rows = {row["id"]: row for row in read(path.parent / "annotations.json.gz")}
    return [
        amber.describe(one["response"], rows[one["id"]]["truth"], rows[one["id"]]["hallu"], known)
        for one in read(path)
    ]


def answered(path):
    rows = {row["id"]: row for row in read(path.parent / "annotations.json.gz")}
    return [
        (rows[one["id"]]["type"], rows[one["id"]]["truth"], amber.read(one["response"])) for one in read(path)
    ]


@pytest.mark.golden
def test_published_descriptions_give_the_official_exact_match_numbers():
    path = published("amber/synthetic_generative.json.gz")
    score = amber.generative(described(path))
    assert score.printed == {"chair": 21.9, "cover": 56.6, "hal": 59.7, "cog": 14.6}
    assert score.n == 1004


@pytest.mark.golden
def test_published_yes_and_no_give_the_official_tables():
    path = published("amber/synthetic_discriminative.json.gz")
    score = amber.discriminative(answered(path))
    printed = {"total": score.total.printed} | {name: part.printed for name, part in score.parts.items()}
    assert {name: tuple(part.values()) for name, part in printed.items()} == {
        "total": (69.6, 87.0, 69.7, 77.4), "existence": (69.0, 100.0, 69.0, 81.6),
        "attribute": (69.8, 77.1, 70.4, 73.6), "state": (69.8, 77.4, 70.4, 73.7), "number": (69.7, 76.8, 69.9, 73.2),
        "action": (69.9, 75.9, 71.7, 73.7), "relation": (70.6, 72.7, 70.4, 71.5),
    }  # fmt: skip
    assert score.parts["relation"].n == 1664


@pytest.mark.golden
@pytest.mark.parametrize("path", cases(data_roots(), "amber/*generative*.json.gz"))
def test_every_file_of_descriptions_scores_within_its_own_bounds(path):
    score = amber.generative(described(path))
    for rate in (score.chair, score.cover, score.hal, score.cog):
        assert 0 <= rate <= 1
    expected = path.with_name(path.name.replace(".json.gz", ".expected.json"))
    if expected.exists():
        assert score.printed == pytest.approx(json.loads(expected.read_text()), abs=0.25)


@pytest.mark.golden
@pytest.mark.parametrize("path", cases(data_roots(), "amber/*discriminative*.json.gz"))
def test_the_order_of_answers_changes_nothing(path):
    rows = answered(path)
    shuffled = random.Random(0).sample(rows, len(rows))
    assert amber.discriminative(shuffled) == amber.discriminative(rows)


@pytest.mark.golden
@pytest.mark.parametrize("path", cases(data_roots(), "amber/relation.json.gz"))
def test_lemmas_are_the_shortest_of_wordnet(path):
    words = amber.vocabulary(read(path)).words
    forms = "women skies shelves knives children benches watches buses men vases leaves sunglasses slipperss people"
    found = {form: _amber_nouns.lemma(form, words) for form in forms.split(" ")}
    assert found == {
        "women": "woman", "skies": "sky", "shelves": "shelf", "knives": "knife", "children": "child",
        "benches": "bench", "watches": "watch", "buses": "bus", "men": None, "vases": None, "leaves": None,
        "sunglasses": None, "slipperss": None, "people": "people",
    }  # fmt: skip


def test_a_word_that_is_no_noun_here_does_not_count():
    known = amber.vocabulary({"watch": [], "dog": [], "can": [], "ski": []})
    found = amber.describe("A dog that can ski is near a watch.", ["dog"], [], known)
    assert found.nouns == ("dog", "watch")
    assert found.hallucinated == ("watch",)


def test_capitals_hide_a_noun_as_in_the_official_program():
    assert amber.describe("Dogs and a cat", ["dog"], [], KNOWN).nouns == ("cat",)


def test_related_words_cover_their_object_and_safe_words_are_never_wrong():
    found = amber.describe("a puppy under a light on a desk and a sky", ["dog", "cat"], ["sky"], KNOWN)
    assert found.nouns == ("puppy", "light", "desk", "sky")
    assert found.hallucinated == ("desk", "sky")
    assert (found.n_covered, found.n_truth, found.n_lured, found.n_lures) == (1, 2, 1, 1)


def test_a_repeated_object_of_the_truth_is_covered_once():
    found = amber.describe("a dog and a dog", ["dog", "dog"], [], KNOWN)
    assert (found.n_covered, found.n_truth, found.hallucinated) == (1, 2, ())


def test_near_words_count_when_a_similarity_is_given():
    def near(first, second):
        return 0.9 if {first, second} == {"cat", "dog"} else 0.0

    plain = amber.describe("a cat", ["dog"], ["sky"], KNOWN)
    found = amber.describe("a cat", ["dog"], ["sky"], KNOWN, similar=near)
    assert (plain.hallucinated, found.hallucinated) == (("cat",), ())
    assert (plain.n_covered, found.n_covered) == (0, 1)
    strict = amber.describe("a cat", ["dog"], ["sky"], KNOWN, similar=near, threshold=0.9)
    assert strict.hallucinated == ("cat",)


def test_a_near_lure_is_ticked_even_when_the_noun_is_near_to_the_truth_too():
    found = amber.describe("a cat", ["dog"], ["sky"], KNOWN, similar=lambda first, second: 1.0)
    assert (found.n_lured, found.n_covered, found.hallucinated) == (1, 1, ())


def test_vectors_are_read_from_a_text_file(tmp_path):
    path = tmp_path / "vectors.txt"
    path.write_text("dog 1 0\ncat 1 1\nsky 0 0\n")
    similar = amber.similarity_from(path)
    assert similar("dog", "cat") == pytest.approx(0.5**0.5)
    assert (similar("dog", "sky"), similar("dog", "table"), similar("table", "table")) == (0.0, 0.0, 1.0)
    path.write_text("dog 1 x\n")
    with pytest.raises(BadInput, match="word vectors"):
        amber.similarity_from(path)


def test_only_exactly_yes_and_no_are_answers_officially():
    texts = ("Yes", "No", "yes", "No.", " Yes", "No, it is not.", "")
    assert [amber.read(text) for text in texts] == ["yes", "no", None, None, None, None, None]
    assert [amber.read(text, "lenient") for text in texts[:6]] == ["yes", "no", "yes", "no", "yes", "no"]
    with pytest.raises(UnknownName, match="lenient"):
        amber.read("Yes", "kind")


def test_a_truth_outside_the_vocabulary_is_refused_and_named():
    with pytest.raises(BadInput, match="'unicorn'"):
        amber.describe("a dog", ["unicorn"], [], KNOWN)
    with pytest.raises(BadInput, match="maybe"):
        amber.discriminative([("relation", "maybe", "yes")])


def test_a_missing_nltk_is_said_with_what_to_install():
    try:
        amber.nltk_nouns("a dog", ())
    except NotInstalled as problem:
        assert "averaged_perceptron_tagger_eng" in str(problem)


def test_no_answers_give_zeros_and_no_division():
    assert amber.generative([]).printed["chair"] == 0.0
    assert amber.discriminative([]).total.printed == {
        "accuracy": 0.0,
        "precision": 0.0,
        "recall": 0.0,
        "f1": 0.0,
    }


@given(st.lists(st.sampled_from(["dog", "puppy", "cat", "table", "desk", "sky", "light"]), max_size=8))
def test_counts_never_exceed_what_there_is(nouns):
    found = amber.describe("", ["dog", "cat"], ["sky"], KNOWN, nouns=lambda text, words: nouns)
    assert len(found.hallucinated) <= len(found.nouns) == len(nouns)
    assert found.n_covered <= found.n_truth and found.n_lured <= found.n_lures
    assert all(noun not in ("dog", "puppy", "cat", "light") for noun in found.hallucinated)


@given(st.text(max_size=200))
def test_any_text_can_be_searched_for_nouns(text):
    words = KNOWN.words
    assert set(amber.own_nouns(text, words)) <= words
