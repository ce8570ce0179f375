import pytest

from vlmtools.errors import BadInput
from vlmtools.scoring import vidhalluc
from vlmtools.scoring.vidhalluc import Choice, Clips, Order, Scene

OPTIONS = {"A": "A man runs", "B": "A dog swims"}


def test_every_letter_that_stands_alone_is_chosen_even_an_article() -> None:
    assert vidhalluc.chosen("B, D.", OPTIONS) == {"B", "D"}
    assert vidhalluc.chosen("A dog swims: B", OPTIONS) == {"A", "B"}
    assert vidhalluc.chosen("b", OPTIONS) == frozenset()


def test_without_a_letter_the_first_option_whose_text_is_said_is_chosen() -> None:
    assert vidhalluc.chosen("I think a dog swims there", OPTIONS) == {"B"}
    assert vidhalluc.chosen("a cat", OPTIONS) == vidhalluc.chosen(None, OPTIONS) == frozenset()


def test_a_choice_is_right_only_when_all_its_letters_are_chosen_and_no_other() -> None:
    found = vidhalluc.score_mcq(
        [Choice("BA", "AB"), Choice("A B", "AB"), Choice("A", "AB"), Choice("?", "A")]
    )
    assert (found.n_right, found.n, found.n_unread, found.accuracy) == (1, 4, 2, 0.25)


def test_a_yes_no_question_is_right_only_for_all_its_clips() -> None:
    right = Clips([("Yes", "yes, it is"), ("No", "NO.")])
    half = Clips([("Yes", "Yes"), ("No", "Yes")])
    cut = Clips([("Yes", "Yes it is")])  # no stop behind the word
    found = vidhalluc.score_bqa([right, half, cut, Clips([("No", None)])])
    assert (found.accuracy, found.n_unread) == (0.25, 2)


@pytest.mark.parametrize(
    ("answer", "official", "lenient"),
    [
        ("ab", "AB", "AB"),
        ("AB.", "None", "AB"),
        ("Action B", "B", "B"),
        ("It is not clear, Action A", "None", "None"),
        ("Action A occurs before Action B", "AB", "AB"),
        ("Action A takes place after Action B", "AB", "AB"),
        ("Action A is seen after Action B", "AB", "AB"),
        ("Action B. Action A", "BA", "BA"),
        ("action b) comes first, b. and action a", "B.A", "BA"),
        ("Action A comes first; climb. Action B", "A.B", "AB"),
        (None, "None", "None"),
    ],
)
def test_an_order_is_read_as_the_official_program_reads_it(
    answer: str | None, official: str, lenient: str
) -> None:
    assert vidhalluc.read_order(answer) == official
    assert vidhalluc.read_order(answer, lenient=True) == lenient


def test_order_accuracy_counts_what_cannot_be_read() -> None:
    found = vidhalluc.score_tsh([Order("AB", "AB"), Order("AB.", "AB"), Order(None, "A")])
    assert (found.n_right, found.n_unread) == (1, 2)
    assert vidhalluc.score_tsh([Order("AB.", "AB")], lenient=True).accuracy == 1


def test_scenes_add_classification_and_places_in_the_published_shares() -> None:
    rows = [
        Scene("Scene change: Yes, Locations: from a hall to a yard.", "Yes", "from a hall to a garden."),
        Scene("Scene change: No, Locations: None", "No", "None"),
    ]
    found = vidhalluc.score_sth(rows, similarity=lambda a, b: float(a == b))
    assert (found.mcc, found.classification, found.description) == (1, 1, 0.5)
    assert found.overall == pytest.approx(0.6 + 0.4 * 0.5)
    assert vidhalluc.score_sth(rows).overall is None


def test_a_similarity_up_to_the_lowest_counts_nothing() -> None:
    row = Scene("Scene change: Yes, Locations: from a to b.", "Yes", "from c to d.")
    assert vidhalluc.score_sth([row], lambda _a, _b: 0.5).description == 0
    assert vidhalluc.score_sth([row], lambda _a, _b: 1.0).description == 1
    part = vidhalluc.score_sth([row], lambda _a, _b: 0.75).description
    assert part is not None and 0.5 < part < 0.55  # the logistic curve is nearly straight there


def test_always_the_same_answer_has_no_correlation() -> None:
    assert vidhalluc.matthews([True, False], [True, True]) == 0
    assert vidhalluc.matthews([True, False], [False, True]) == -1
    with pytest.raises(BadInput, match="no videos"):
        vidhalluc.score_sth([])
