import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted import Gone, Scripted

from vlmtools.crosscheck.judges import _ask
from vlmtools.crosscheck.judges._yes_no import numbered, starts_with, starts_with_lenient, yes_share
from vlmtools.crosscheck.judges.base import Question
from vlmtools.crosscheck.judges.prompt import OFFICIAL, Prompt
from vlmtools.errors import BadInput, ResponderError, ServerError
from vlmtools.types import Decoding, Reply, Sample

ITEM = Sample("1", "What is there?", image="dog.jpg")
TWO = Question(("A dog.", "A cat."), "There is a dog.\nIt runs.", ITEM)


def knows_dogs(prompt):
    if "Sentences:" in prompt:
        lines = re.findall(r"^(\d+)\. (.*)$", prompt, re.MULTILINE)
        return "\n".join(f"{number}. {'Yes' if 'dog' in text.lower() else 'No'}" for number, text in lines)
    return "Yes." if "dog" in re.search(r"Sentence: (.*)\n", prompt)[1].lower() else " No"


def supports(judge, questions):
    return {index: [vote.support for vote in votes] for index, votes in judge.judge(questions)}


def test_the_published_template_is_sent_to_the_letter_without_the_picture():
    model = Scripted(knows_dogs)
    assert supports(Prompt(model), [TWO]) == {0: [1.0, 0.0]}
    assert model.prompts[0] == (
        "Context: There is a dog. It runs.\n\nSentence: A dog.\n\n"
        "Is the sentence supported by the context above? Answer Yes or No.\n\nAnswer: "
    )
    assert {(r.decoding, r.show_media, r.sample.media) for r in model.asked} == {
        (Decoding(max_new_tokens=5), False, ())
    }


@pytest.mark.parametrize(
    ("text", "support", "parsed"),
    [
        ("Yes.", 1, True),
        (" yes, it is", 1, True),
        ("NO", 0, True),
        ("Not quite", 0, True),
        ("Now", 0, True),
        ("**Yes**", 0.5, False),
        ("Maybe", 0.5, False),
        ("", 0.5, False),
        ("The answer is yes", 0.5, False),
    ],
)
def test_the_published_rule_reads_the_beginning_only(text, support, parsed):
    vote = starts_with(text)
    assert (vote.support, vote.parsed, vote.raw) == (support, parsed, text)


@pytest.mark.parametrize(
    "text", ["**Yes**", "“Yes”", "Answer: Yes", "Ｙｅｓ", "The answer is yes.", "- yes", "_Yes_"]
)
def test_the_lenient_rule_reads_behind_decoration(text):
    assert starts_with_lenient(text).support == 1.0 and starts_with_lenient(text).raw == text
    assert starts_with(text).support == 0.5
    assert supports(Prompt(Scripted(lambda _: text), lenient=True), [TWO]) == {0: [1.0, 1.0]}
    assert supports(Prompt(Scripted(lambda _: text)), [TWO]) == {0: [0.5, 0.5]}


def test_the_lenient_rule_does_not_invent_verdicts():
    assert starts_with_lenient("Perhaps yes").support == 0.5
    assert starts_with_lenient("").support == 0.5


@given(st.text(max_size=30))
def test_any_reply_gives_a_vote_between_zero_and_one(text):
    for vote in (starts_with(text), starts_with_lenient(text)):
        assert vote.support in (0.0, 0.5, 1.0) and vote.parsed == (vote.support != 0.5)


def test_first_token_probabilities_are_summed_over_spellings():
    assert yes_share({" Yes": 0.4, "yes": 0.2, "No": 0.2, "Yesterday": 0.2}, "Yes").support == pytest.approx(
        0.75
    )
    assert yes_share({"Maybe": 1.0}, "Maybe").parsed is False
    model = Scripted(lambda _: Reply("Yes", first_token={"Yes": 0.3, "No": 0.1}))
    assert supports(Prompt(model, read="first_token"), [TWO]) == {0: [pytest.approx(0.75)] * 2}
    assert all(request.first_token and request.decoding.max_new_tokens == 1 for request in model.asked)


def test_a_model_without_probabilities_is_an_error_and_not_half_of_everything():
    with pytest.raises(ResponderError, match="read=text"):
        list(Prompt(Scripted(knows_dogs), read="first_token").judge([TWO]))


def test_several_sentences_per_call_give_the_same_votes_with_fewer_calls():
    claims = tuple(f"A {animal}." for animal in ("dog", "cat", "dog now", "cow", "hen"))
    question = Question(claims, "A dog.", ITEM)
    one, four = Scripted(knows_dogs), Scripted(knows_dogs)
    assert supports(Prompt(one), [question]) == supports(Prompt(four, per_call=4), [question])
    assert (len(one.asked), len(four.asked)) == (5, 2)
    assert "1. A dog.\n2. A cat.\n3. A dog now.\n4. A cow.\n\nIs each" in four.prompts[0]
    assert four.prompts[0].index("Context") < four.prompts[0].index("A cat")


def test_a_list_that_cannot_be_read_is_asked_sentence_by_sentence():
    model = Scripted(lambda prompt: "1. Yes\n2. Maybe" if "Sentences:" in prompt else knows_dogs(prompt))
    assert supports(Prompt(model, per_call=2), [TWO]) == {0: [1.0, 0.0]}
    assert len(model.asked) == 3


@pytest.mark.parametrize(
    "text", ["1. Yes\n2. No", "1) yes\n\n2) NO.", "(1) Yes\n(2) No", "1: yes\n2: no", "1 - Yes\n2 - No"]
)
def test_a_clean_list_of_verdicts_is_read(text):
    assert numbered(text, 2) == (True, False)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Yes\nNo",
        "1. Yes",
        "2. Yes\n1. No",
        "1. Yes\n1. No",
        "1. Yes\n2. No\n3. No",
        "1. Yes, since\n2. No",
        "Here:\n1. Yes\n2. No",
        "1. Yes\n2. Unknown",
        "1. Yes 2. No",
    ],
)
def test_a_list_with_anything_else_is_refused(text):
    assert numbered(text, 2) is None


def test_equal_questions_are_asked_once_and_replies_may_come_in_any_order():
    model = Scripted(knows_dogs, backwards=True)
    other = Question(("A cat.", "A dog."), TWO.evidence, Sample("2"))
    assert supports(Prompt(model), [TWO, other, TWO]) == {0: [1.0, 0.0], 1: [0.0, 1.0], 2: [1.0, 0.0]}
    assert len(model.asked) == 2


@pytest.mark.parametrize("per_call", [1, 2])
def test_a_failed_call_gives_no_vote_and_the_others_are_kept(per_call):
    model = Scripted(lambda prompt: None if "A cat" in prompt else knows_dogs(prompt))
    single = Question(("A dog!",), "A dog.", ITEM)
    got = {}
    with pytest.raises(ResponderError, match="1 of 2 questions unanswered; the first reason: too busy"):
        for index, votes in Prompt(model, per_call=per_call).judge([TWO, single]):
            got[index] = votes
    assert list(got) == [1]


def test_what_was_yielded_before_the_server_went_away_stays():
    got = []
    with pytest.raises(ServerError):
        for index, _ in Prompt(Gone(knows_dogs, 3)).judge([TWO, Question(("A cow.", "A hen."), "x", ITEM)]):
            got.append(index)
    assert got == [0]


def test_a_reply_that_never_comes_is_reported():
    class Silent(Scripted):
        def answer(self, requests):
            yield from list(super().answer(requests))[:1]

    with pytest.raises(ResponderError, match="returned no reply"):
        list(Prompt(Silent(knows_dogs)).judge([TWO]))


def test_votes_arrive_block_by_block(monkeypatch):
    monkeypatch.setattr(_ask, "BLOCK", 2)
    model = Scripted(knows_dogs)
    stream = Prompt(model).judge([Question((f"A dog {n}.",), "A dog.", ITEM) for n in range(5)])
    assert next(stream)[0] == 0 and len(model.asked) == 1
    assert [index for index, _ in stream] == [1, 2, 3, 4] and model.n_calls == 3


def test_braces_in_the_text_are_left_alone():
    model = Scripted(lambda _: "Yes")
    list(Prompt(model).judge([Question(("A {context} sign.",), "It says {sentence} {0}.", ITEM)]))
    assert "Context: It says {sentence} {0}.\n\nSentence: A {context} sign." in model.prompts[0]


def test_without_a_model_the_judge_says_how_to_name_one():
    for judge in (Prompt(), Prompt(model="hf:some/model")):
        with pytest.raises(BadInput, match=r"--judge-model"):
            judge.judge([TWO])
        with pytest.raises(BadInput, match=r"prompt"):
            judge.identity()


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"read": "logits"}, "text, first_token"),
        ({"per_call": 0}, "per_call=0"),
        ({"per_call": 2, "read": "first_token"}, "one sentence"),
        ({"template": "Is {sentence} true?"}, "placeholder"),
    ],
)
def test_fields_that_cannot_work_are_refused_before_anything_is_asked(fields, match):
    model = Scripted(knows_dogs)
    with pytest.raises(BadInput, match=match):
        Prompt(model, **fields).judge([TWO])
    assert not model.asked


def test_everything_that_may_change_a_vote_is_in_the_identity():
    model = Scripted(knows_dogs)
    fields = [{}, {"read": "first_token"}, {"per_call": 3}, {"lenient": True}, {"template": OFFICIAL + " "}]
    identities = [Prompt(model, **field).identity() for field in fields]
    assert all(identities.count(identity) == 1 for identity in identities)


def test_only_a_responder_opened_from_a_name_is_closed():
    mine, named = Scripted(knows_dogs), Scripted(knows_dogs)
    Prompt(mine).close()
    Prompt(named, model="hf:x").close()
    assert (mine.closed, named.closed) == (0, 1)


def test_a_real_causal_model_answers_in_both_ways_of_reading(tmp_path):
    from tiny_models import causal_lm

    from vlmtools.responders.hf import HF

    model = HF(str(causal_lm(tmp_path / "lm")))
    votes = dict(Prompt(model).judge([TWO]))[0]
    assert all(vote.support in (0.0, 0.5, 1.0) and vote.parsed == (vote.support != 0.5) for vote in votes)
    shares = dict(Prompt(model, read="first_token").judge([TWO]))[0]
    assert all(0.0 <= vote.support <= 1.0 for vote in shares)
    model.close()
