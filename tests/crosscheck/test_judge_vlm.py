import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted import Scripted

from vlmtools.crosscheck.judges._yes_no import errors_by_substring, errors_by_word
from vlmtools.crosscheck.judges.base import Question
from vlmtools.crosscheck.judges.vlm import VLM, medium, topic
from vlmtools.errors import BadInput, ResponderError
from vlmtools.media import prompt_text
from vlmtools.types import Sample

ITEM = Sample("1", "What is there?", image="dog.jpg", reference="A dog.")
TWO = Question(("A dog.", "A cat."), None, ITEM)


def sees_a_dog(prompt):
    return '{"Answer": "NO"}' if "A dog." in prompt else '{"Answer": "YES"}'


def supports(judge, questions):
    return {index: [vote.support for vote in votes] for index, votes in judge.judge(questions)}


def test_the_model_is_shown_the_picture_and_the_sentence_and_nobody_elses_words():
    model = Scripted(sees_a_dog)
    told = Question(TWO.claims, "Somebody said there is a cat.", ITEM)
    assert supports(VLM(model), [told]) == {0: [1.0, 0.0]}
    request = model.asked[0]
    assert request.sample.image == "dog.jpg" and request.show_media and request.decoding.max_new_tokens == 8
    assert "statement about the image:\nA dog.\n" in request.sample.prompt
    assert "Somebody" not in request.sample.prompt and request.sample.reference is None


def test_items_without_media_are_asked_in_the_published_words():
    model = Scripted(sees_a_dog)
    item = Sample("7", "Generate a passage about Ada.", extra={"topic": "Ada"})
    list(VLM(model).judge([Question(("She was born.",), None, item)]))
    assert model.prompts == [
        "You are given the following sentence about Ada:\nShe was born.\n"
        "Determine if the sentence contains any factual errors. Answer YES if it has errors, and NO if it does not. "
        'Your answer should be in the following format:\n{"Answer": <YES_or_NO>}'
    ]


def test_a_passage_is_shown_above_the_question():
    model = Scripted(sees_a_dog)
    list(VLM(model).judge([Question(("A dog.",), None, Sample("1", text="A dog ran."))]))
    shown = prompt_text(model.asked[0])
    assert shown.startswith("A dog ran.\n\nYou are given") and "about the text above:" in shown


@pytest.mark.parametrize(
    ("item", "called"),
    [
        (Sample("1", image="a"), "the image"),
        (Sample("1", video="a", audio="b"), "the video and the audio"),
        (Sample("1", "Why?"), '"Why?"'),
        (Sample("1", extra={"person": "Ada"}), "Ada"),
        (Sample("Ada"), "Ada"),
    ],
)
def test_the_question_calls_the_item_by_what_it_is(item, called):
    assert medium(item) == called
    assert item.modality or topic(item) == called


@pytest.mark.parametrize(
    ("text", "official", "word"),
    [
        ('{"Answer": "YES"}', 0, 0),
        ('{"Answer": NO}', 1, 1),
        ("Yes.", 0, 0),
        ("no", 1, 1),
        ("I know it: YES", 0.5, 0),
        ("I cannot say", 1, 0.5),
        ("Another dog", 1, 0.5),
        ('{"Answer": "YES"} since there is no dog', 0.5, 0),
        ('{"Answer": <YES_or_NO>}', 0.5, 0.5),
        ("yes and no", 0.5, 0.5),
        ("", 0.5, 0.5),
    ],
)
def test_both_rules_read_what_they_say_they_read(text, official, word):
    for rule, expected in ((errors_by_substring, official), (errors_by_word, word)):
        vote = rule(text)
        assert (vote.support, vote.parsed, vote.raw) == (expected, expected != 0.5, text)


def test_the_rule_is_chosen_by_its_field():
    model = Scripted(lambda _: "I know it: YES")
    assert supports(VLM(model), [TWO]) == {0: [0.0, 0.0]}
    assert supports(VLM(model, rule="official"), [TWO]) == {0: [0.5, 0.5]}


@given(st.text(alphabet='yesno Y{}":A', max_size=30))
def test_any_reply_gives_a_vote(text):
    for vote in (errors_by_substring(text), errors_by_word(text)):
        assert vote.support in (0.0, 0.5, 1.0) and vote.parsed == (vote.support != 0.5)


def test_two_steps_ask_for_errors_first_and_paste_the_list_into_the_verdict():
    model = Scripted(lambda p: "There is no {claim} cat." if p.endswith("say so.") else sees_a_dog(p))
    assert supports(VLM(model, two_step=True), [TWO]) == {0: [1.0, 0.0]}
    limits = [request.decoding.max_new_tokens for request in model.asked]
    assert limits == [128, 128, 8, 8] and all(request.sample.image for request in model.asked)
    assert "There is no {claim} cat.\n\nYou are given" in model.prompts[2]


def test_a_failed_first_step_leaves_the_question_unanswered():
    model = Scripted(lambda p: None if "A cat" in p else "No")
    with pytest.raises(ResponderError, match="1 of 1 questions unanswered; the first reason: too busy"):
        list(VLM(model, two_step=True).judge([TWO]))


def test_a_failed_call_gives_no_vote_and_the_others_are_kept():
    model, got = Scripted(lambda p: None if "A cat" in p else "NO"), []
    with pytest.raises(ResponderError, match="1 of 2"):
        for index, _ in VLM(model).judge([TWO, Question(("A dog.",), None, ITEM)]):
            got.append(index)
    assert got == [1]


def test_the_same_sentence_about_two_pictures_is_asked_twice_and_about_one_picture_once():
    model = Scripted(sees_a_dog)
    one, other = Question(("A dog.",), None, ITEM), Question(("A dog.",), None, Sample("2", image="cat.jpg"))
    assert supports(VLM(model), [one, other, one]) == {0: [1.0], 1: [1.0], 2: [1.0]}
    assert [request.sample.image for request in model.asked] == ["dog.jpg", "cat.jpg"]
    assert len({request.sample.id for request in model.asked}) == 2


def test_a_template_of_ones_own_is_filled_without_touching_other_braces():
    model = Scripted(lambda _: "NO")
    list(VLM(model, template="{medium} {x} {}: {claim}").judge([Question(("A {medium}.",), None, ITEM)]))
    assert model.prompts == ["the image {x} {}: A {medium}."]


def test_a_question_whose_yes_means_true_is_read_the_other_way_round():
    model = Scripted(lambda prompt: "Yes." if "dog" in prompt else "No." if "cat" in prompt else "Perhaps.")
    asked = VLM(model, template="Is there a {claim}?", yes_means="true")
    assert supports(asked, [Question(("dog", "cat", "cow"), None, ITEM)]) == {0: [1.0, 0.0, 0.5]}
    assert asked.identity() != VLM(model, template="Is there a {claim}?").identity()


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"rule": "regex"}, "word, official"),
        ({"template": "True?"}, "{claim}"),
        ({"list_template": "?"}, "{claim}"),
        ({"yes_means": "maybe"}, "wrong, true"),
        ({"yes_means": "true"}, "needs a template"),
    ],
)
def test_fields_that_cannot_work_are_refused(fields, match):
    with pytest.raises(BadInput, match=match):
        VLM(Scripted(sees_a_dog), **fields).judge([TWO])


def test_without_a_model_the_judge_says_how_to_name_one():
    with pytest.raises(BadInput, match="'vlm' was given no model"):
        VLM().judge([TWO])


def test_everything_that_may_change_a_vote_is_in_the_identity():
    model = Scripted(sees_a_dog)
    fields = [{}, {"rule": "official"}, {"two_step": True}, {"template": "{claim}?"}, {"max_new_tokens": 4}]
    identities = [VLM(model, **field).identity() for field in fields]
    assert all(identities.count(identity) == 1 for identity in identities)


def test_a_real_vision_language_model_looks_and_answers(tmp_path):
    from tiny_models import llava, picture

    from vlmtools.responders.hf import HF

    item = Sample("1", image=str(picture(tmp_path)))
    model = HF(str(llava(tmp_path / "vlm")))
    votes = dict(
        VLM(model, two_step=True, list_tokens=8).judge([Question(("A dog.", "A cat."), None, item)])
    )[0]
    assert len(votes) == 2 and all(vote.support in (0.0, 0.5, 1.0) for vote in votes)
    model.close()
