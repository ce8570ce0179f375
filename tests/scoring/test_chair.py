import gzip
import json
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from places import cases, data_roots, published

from vlmtools.errors import BadInput, MissingField
from vlmtools.scoring import _tokens, chair
from vlmtools.scoring._plurals import singular
from vlmtools.scoring._punkt import sentence_spans
from vlmtools.scoring._tokens import token_spans, tokens

PIECES = (
    "dog dogs. Teddy bears, a wine glass U.S. 3. b. smith … ... 'cat' \"hot dog\" “bed” (toilet seat) cannot 'tis baby "
    "bird? İstanbul \n \t don't people's -- ``x'' , the stop signs! toilet seats é 5.5 ½ 👍🏽 ’ etc. .) .\" a\u0301"
)
TEXT = st.text(max_size=80) | st.lists(st.sampled_from(PIECES.split(" ")), max_size=25).map(" ".join)


def rows(path):
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).decode().splitlines()]


def captions_of(path):
    return {row["image_id"]: row["caption"] for row in rows(path)}


def cpu_seconds(captions):
    begin = time.process_time()
    for caption in captions:
        chair.score_caption(caption, frozenset({"person"}))
    return time.process_time() - begin


def words_of(caption):
    return [found.word for found in chair.COCO.found(caption)]


@pytest.mark.golden
@pytest.mark.parametrize("path", cases(data_roots(), "chair/captions/*.jsonl.gz"))
def test_published_captions_score_as_in_the_official_program_to_the_last_digit(path):
    expected = json.loads((path.parents[1] / "expected_overall_full_precision.json").read_text())
    truth = chair.load_truth(path.parents[1] / "coco_gt_objects.json.gz")
    score = chair.score(captions_of(path), truth)
    ours = {"CHAIRs": score.chair_s, "CHAIRi": score.chair_i, "Recall": score.recall}
    assert ours == expected[path.name.removesuffix(".gz")]


@pytest.mark.golden
@pytest.mark.parametrize("path", cases(data_roots(), "chair/expected_per_caption/*.jsonl.gz"))
def test_every_published_caption_gives_the_official_mentions(path):
    truth = chair.load_truth(path.parents[1] / "coco_gt_objects.json.gz")
    captions = captions_of(path.parents[1] / "captions" / path.name)
    for row in rows(path):
        caption = captions[row["image_id"]]
        one = chair.score_caption(caption, truth[str(row["image_id"])])
        assert list(one.generated) == row["generated"]
        assert [list(pair) for pair in one.hallucinated] == row["hallucinated"]
        assert list(one.indices) == row["idxs"]
        assert (one.chair_s, one.chair_i, one.recall) == (row["CHAIRs"], row["CHAIRi"], row["Recall"])
        assert [mention.node for mention in chair.mentions(caption)] == row["generated"]


@pytest.mark.golden
@pytest.mark.parametrize("path", cases(data_roots(), "chair/captions/opera_llava*_greedy.jsonl.gz"))
def test_the_cache_of_words_never_changes_a_token(path):
    for caption in captions_of(path).values():
        lower = caption.lower()
        by_rules = [
            token for begin, end in sentence_spans(lower) for token in _tokens._by_rules(lower[begin:end])
        ]
        assert tokens(lower) == by_rules


@pytest.mark.golden
def test_two_thousand_long_captions_take_under_a_second():
    captions = list(captions_of(published("chair/captions/opera_shikra_greedy.jsonl.gz")).values()) * 4
    assert len(captions) == 2000
    assert min(cpu_seconds(captions) for _ in range(3)) < 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a cat. the dog sat.", "a cat . the dog sat ."),
        ("he met dr. smith in the u.s. army.", "he met dr. smith in the u.s. army ."),
        ("there are 3. the dogs run.", "there are 3. the dogs run ."),
        ("letter b. then it ends.", "letter b. then it ends ."),
        ("wait... the dog. . . runs", "wait ... the dog . . . runs"),
        ("the 'apple' isn't the dogs' or the man's.", "the ' apple ' is n't the dogs ' or the man 's ."),
        ('he said "hot dog". yes!', "he said `` hot dog '' . yes !"),
        ("a cat.the dog,a bird (two).", "a cat.the dog , a bird ( two ) ."),
        ("i cannot wanna 'tis d'ye", "i can not wan na ' tis d 'ye"),
        ("at 5:30, 1,000 dogs -- $5.", "at 5:30 , 1,000 dogs -- $ 5 ."),
        ("the man’s “red” kite.” a dog", "the man ’ s “ red ” kite . ” a dog"),
    ],
)
def test_tokens_are_those_of_nltk(text, expected):
    assert tokens(text) == expected.split()


def test_plurals_follow_the_official_rules_with_their_mistakes():
    given_words = (
        "bus buses glasses ties people oxen skis scissors knives series men's mothers-in-law dogs' luggage"
    )
    expected = "bu bus glass ty person ox ski scissors knife series men' mother-in-law dog's luggage"
    assert " ".join(map(singular, given_words.split())) == expected


def test_there_are_eighty_objects_and_each_is_named_by_itself():
    assert len(chair.NODES) == len(set(chair.NODES)) == 80
    assert set(chair.COCO.objects.values()) == set(chair.NODES)


def test_pairs_are_read_as_one_word_and_a_baby_animal_is_no_person():
    assert words_of("Two wine glasses, a baby bear and a bow tie at a bus stop sign") == [
        "wine glass", "bear", "tie", "stop sign",
    ]  # fmt: skip
    assert words_of("A baby and a home plate near a train track") == ["baby"]


def test_a_toilet_hides_every_seat_and_the_official_count_slips():
    found = chair.mentions("a seat, a dog, a toilet")
    assert [(mention.word, mention.index) for mention in found] == [("dog", 3), ("toilet", 6)]
    assert ["a seat, a dog, a toilet"[m.start : m.end] for m in found] == ["dog", "toilet"]
    assert words_of("a seat and a dog") == ["seat", "dog"]


def test_a_mention_says_where_it_stands_in_the_caption_as_written():
    caption = 'İki "Teddy  Bears" and WINE\nGLASSES.'
    written = [(m.node, caption[m.start : m.end]) for m in chair.mentions(caption)]
    assert written == [("teddy bear", "Teddy  Bears"), ("wine glass", "WINE\nGLASSES")]


def test_repeats_count_in_chair_i_and_only_once_in_recall():
    one = chair.score_caption(
        "A dog, a dog and a cat beside a chair. The chair is red.", ["dog", "person", "dog"]
    )
    assert one.generated == ("dog", "dog", "cat", "chair", "chair")
    assert (one.chair_s, one.chair_i, one.recall) == (1, 3 / 5, 1 / 2)
    assert one.hallucinated == (("cat", "cat"), ("chair", "chair"), ("chair", "chair"))


def test_recall_is_pooled_over_captions_and_not_a_mean():
    score = chair.score({1: "a dog", 2: "a cat"}, {"1": ["dog"], "2": ["cat", "bed", "person"]})
    assert score.recall == 2 / 4
    assert (score.chair_s, score.chair_i, score.coverage, score.mean_words) == (0.0, 0.0, 1.0, 2.0)
    assert list(score.captions) == ["1", "2"]


def test_a_silent_model_is_told_apart_by_coverage():
    score = chair.score({"1": ""}, {"1": ["dog"]})
    assert (score.chair_i, score.recall, score.coverage, score.n_mentions) == (0.0, 0.0, 0.0, 0)


def test_an_image_without_truth_is_refused_and_named():
    with pytest.raises(MissingField, match=r"No truth for 1 of 1 captioned images, first of them '7'"):
        chair.score({7: "a dog"}, {8: ["dog"]})
    with pytest.raises(BadInput, match="no captions"):
        chair.score({}, {8: ["dog"]})


def test_a_truth_that_is_no_coco_name_is_refused_with_the_close_one():
    with pytest.raises(BadInput, match="Did you mean 'hair drier'"):
        chair.score_caption("a dog", ["hair dryer"])


def test_a_truth_file_is_read_plain_and_gzipped(tmp_path: Path):
    content = json.dumps({"42": ["dog", "dog"]})
    (tmp_path / "truth.json").write_text(content)
    (tmp_path / "truth.json.gz").write_bytes(gzip.compress(content.encode()))
    assert chair.load_truth(tmp_path / "truth.json") == {"42": frozenset({"dog"})}
    assert chair.load_truth(tmp_path / "truth.json.gz") == {"42": frozenset({"dog"})}


@pytest.mark.parametrize("content", ["[1]", '{"1": "dog"}', "{", '{"1": [1]}'])
def test_a_truth_file_of_another_layout_is_refused(tmp_path: Path, content):
    (tmp_path / "truth.json").write_text(content)
    with pytest.raises(BadInput):
        chair.load_truth(tmp_path / "truth.json")
    with pytest.raises(BadInput, match="Cannot read"):
        chair.load_truth(tmp_path / "other.json")


def test_the_official_truth_joins_instances_and_human_captions():
    instances = {
        "categories": [{"id": 1, "name": "dog"}, {"id": 2, "name": "hair drier"}],
        "annotations": [{"image_id": 9, "category_id": 1}, {"image_id": 8, "category_id": 2}],
    }
    captions = {"annotations": [{"image_id": 9, "caption": "A puppy under two tables."}]}
    truth = chair.ground_truth_from_coco(instances, captions)
    assert truth == {"9": {"dog", "dining table"}, "8": {"hair drier"}}
    with pytest.raises(MissingField, match="instances first"):
        chair.ground_truth_from_coco(captions, instances)


@given(TEXT)
def test_every_mention_slices_the_caption_in_order(caption):
    mentions = chair.mentions(caption)
    place = 0
    for mention in mentions:
        assert place <= mention.start < mention.end <= len(caption)
        place = mention.end
    assert [(m.word, m.node, m.index) for m in mentions] == [f[:3] for f in chair.COCO.found(caption)]


@given(TEXT)
def test_tokens_cover_all_of_the_text_but_the_blanks(caption):
    lower = caption.lower()
    spans = token_spans(lower, tokens(lower))
    assert "".join(lower[begin:end] for begin, end in spans) == "".join(lower.split())


@given(TEXT)
def test_the_cached_words_give_what_the_rules_give(caption):
    lower = caption.lower()
    by_rules = [
        token for begin, end in sentence_spans(lower) for token in _tokens._by_rules(lower[begin:end])
    ]
    assert tokens(lower) == by_rules


@given(TEXT)
def test_what_a_caption_names_is_never_hallucinated_against_itself(caption):
    one = chair.score_caption(caption, chair.COCO.named(caption))
    assert one.chair_s == 0 and one.hallucinated == ()
    assert one.recall == (1.0 if one.generated else 0.0)
