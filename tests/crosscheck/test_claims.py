import gzip
import json
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from places import cases, data_roots

from vlmtools.crosscheck.claims import count_tokens, sentences, spans
from vlmtools.crosscheck.judges.base import Claim
from vlmtools.errors import BadInput

CAPTIONS = cases(data_roots(), "chair/captions/*.jsonl.gz")

TRICKY = {
    "titles, decimals and acronyms": (
        "Dr. Smith met Mr. Jones at 3.5 p.m. in the U.S. Army base. They left.",
        ["Dr. Smith met Mr. Jones at 3.5 p.m. in the U.S. Army base.", "They left."],
    ),
    "an acronym at the end": (
        "He lives in the U.S. The dog barks.",
        ["He lives in the U.S.", "The dog barks."],
    ),
    "list items on lines": (
        "Objects:\n1. A dog.\n2. A cat\n- a bird\n* two fish",
        ["Objects:", "1. A dog.", "2. A cat", "- a bird", "* two fish"],
    ),
    "list items in one line": ("1. A dog. 2. A cat. 3. A bird.", ["1. A dog.", "2. A cat.", "3. A bird."]),
    "a number at the end": ("There are 3. The next is red.", ["There are 3.", "The next is red."]),
    "a number at the start": ("It was 1990. 20 dogs ran.", ["It was 1990.", "20 dogs ran."]),
    "ellipsis": (
        "The image shows... a dog. Wait… what? Yes!",
        ["The image shows... a dog.", "Wait… what?", "Yes!"],
    ),
    "quotes": ('"Stop!" he said. "Go on." She left.', ['"Stop!" he said.', '"Go on."', "She left."]),
    "lower case": ("a man rides a horse. there are two dogs", ["a man rides a horse.", "there are two dogs"]),
    "chinese": ("一只狗在跑。还有一只猫！真的吗？是的", ["一只狗在跑。", "还有一只猫！", "真的吗？", "是的"]),
    "emoji": ("I love it! 😀 The dog runs 🐕. 👍🏽", ["I love it! 😀", "The dog runs 🐕. 👍🏽"]),
    "a forgotten blank": ("A red dog.The cat sat.", ["A red dog.", "The cat sat."]),
    "addresses and versions": (
        "See www.site.Com. It is v2.0.1 now.",
        ["See www.site.Com.", "It is v2.0.1 now."],
    ),
    "initials and latin": (
        "J. K. Rowling wrote it, i.e. her. No. 5 is alive, etc. The end.",
        ["J. K. Rowling wrote it, i.e. her.", "No. 5 is alive, etc.", "The end."],
    ),
    "paragraphs": ("One dog\n\nand one cat", ["One dog", "and one cat"]),
    "short lower-case lines are a list": ("apple\nbanana", ["apple", "banana"]),
    "wrapped prose": (
        "A long line about a dog that was wrapped by width and\ngoes on here. Yes.",
        ["A long line about a dog that was wrapped by width and\ngoes on here.", "Yes."],
    ),
    "markdown": (
        "## Scene\n**A dog.** The cat (it sat) left.",
        ["## Scene", "**A dog.**", "The cat (it sat) left."],
    ),
    "rules stay with a neighbour": ("A dog.\n---\nA cat.", ["A dog.\n---", "A cat."]),
    "footnotes": ("A dog.[1] A cat.", ["A dog.[1]", "A cat."]),
    "nothing but marks": ("...", ["..."]),
    "windows line ends": ("A dog\r\nA cat\r\n", ["A dog", "A cat"]),
}


def texts(answer, **options):
    return [claim.text for claim in sentences(answer, **options)]


def covers(answer, splitter="rules"):
    place = 0
    for claim in sentences(answer, splitter=splitter):
        assert claim.text == answer[claim.start : claim.end] and claim.text.strip() == claim.text != ""
        assert not answer[place : claim.start].strip()
        place = claim.end
    assert not answer[place:].strip()


@pytest.mark.parametrize("case", TRICKY)
def test_tricky_text_is_split_where_a_reader_would(case):
    answer, expected = TRICKY[case]
    assert texts(answer) == expected


@pytest.mark.parametrize("splitter", ["rules", "pysbd"])
@pytest.mark.parametrize("case", TRICKY)
def test_every_claim_slices_the_answer_exactly_and_nothing_is_lost(case, splitter):
    covers(TRICKY[case][0], splitter)


@given(
    st.text(alphabet=st.sampled_from('aB1 .!?…。\n\r\t-*"”([)]😀é#:\u2028'), max_size=60)
    | st.text(max_size=40)
)
def test_any_text_at_all_is_covered_without_overlap(answer):
    covers(answer)


@pytest.mark.parametrize("blank", ["", "  ", "\n\n\t"])
def test_blank_text_has_no_sentence(blank):
    assert sentences(blank) == ()


def test_sentences_of_three_tokens_are_dropped_and_a_dot_stands_for_nothing():
    assert texts("A dog. It is a dog.", min_tokens=4) == ["It is a dog."]
    assert sentences("Yes.", min_tokens=4) == ()
    assert sentences("Yes.", min_tokens=4, keep_one=True) == (Claim(".", 0, 0),)
    assert sentences("", keep_one=True) == (Claim(".", 0, 0),)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("A dog.", 3), ("It isn't 3.5 m", 5), ("the man's hat", 4), ("a red-brown dog!", 6), ("", 0)],
)
def test_contractions_are_two_tokens_and_decimals_one(text, tokens):
    assert count_tokens(text) == tokens


def test_an_unknown_splitter_names_those_there_are():
    with pytest.raises(BadInput, match=r"spacy.*pysbd, rules"):
        sentences("A dog.", splitter="spacy")


def test_pysbd_is_not_imported_unless_asked_for():
    code = (
        "import sys, vlmtools.crosscheck.claims as c; c.sentences('A. B.'); sys.exit('pysbd' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.golden
@pytest.mark.parametrize("path", CAPTIONS)
def test_published_captions_are_covered_split_as_pysbd_does_and_fast(path):
    with gzip.open(path, "rt", encoding="utf-8") as file:
        captions = [json.loads(line)["caption"] for line in file]
    start = time.process_time()
    count = sum(len(spans(caption)) for caption in captions)
    assert time.process_time() - start < 2.0 and count >= len(captions)
    for caption in captions:
        covers(caption)
    sample = captions[:: max(1, len(captions) // 25)]
    equal = sum(spans(caption) == spans(caption, "pysbd") for caption in sample)
    assert equal >= 0.95 * len(sample)
