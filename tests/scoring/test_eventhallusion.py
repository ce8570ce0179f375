import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from places import cases, data_roots

from vlmtools.errors import BadInput
from vlmtools.scoring import eventhallusion
from vlmtools.scoring.eventhallusion import Video

OFFICIAL = {
    "video_llava": {
        "overall": (0.5061124694376528, 0.16876574307304787, 0, 0.00252),
        "entire": (0.307018, 0.082569),
        "interleave": (0.673575, 0.072539),
        "misleading": (0.411765, 0.463158),
    }
}
"""What the authors' program printed: questions, descriptions, and the shares it could not read."""


def splits_of(path: Path) -> dict[str, list[Video]]:
    raw = path.read_bytes()
    content = json.loads(gzip.decompress(raw) if path.suffix == ".gz" else raw)
    rows = {name: part.values() if isinstance(part, dict) else part for name, part in content.items()}
    return {name: [video(row) for row in part] for name, part in rows.items()}


def video(row: Any) -> Video:
    return Video([(one["answer"], one["prediction"]) for one in row["qa"]], row["judgement"])


@pytest.mark.golden
@pytest.mark.parametrize("path", cases(data_roots(), "**/eventhallusion/*.json*"))
def test_every_published_file_has_the_official_accuracies(path: Path) -> None:
    found = eventhallusion.score(splits_of(path))
    assert found.overall.questions is not None and found.overall.descriptions is not None
    name = next((name for name in OFFICIAL if path.name.startswith(name)), None)
    plain = [
        (str(one["answer"]).lower().rstrip("."), str(one["prediction"] or "").lower())
        for part in json.loads(gzip.decompress(path.read_bytes())).values()
        for row in (part.values() if isinstance(part, dict) else part)
        for one in row["qa"]
    ]
    assert found.overall.n_questions_right == sum(said.startswith(gold) for gold, said in plain)
    if name is not None:
        assert_official(found, OFFICIAL[name])


def assert_official(found: eventhallusion.EventHallusionScore, expected: dict[str, Any]) -> None:
    questions, descriptions, unread, unread_judgements = expected["overall"]
    assert (found.overall.questions, found.overall.descriptions) == (questions, descriptions)
    assert found.overall.unread_questions == unread
    assert found.overall.unread_judgements == pytest.approx(unread_judgements, abs=5e-6)
    assert (found.overall.n_questions_right, found.overall.n_accepted) == (207, 67)
    for name, split in found.splits.items():
        assert (split.questions, split.descriptions) == pytest.approx(expected[name], abs=5e-7)


def test_an_answer_is_read_by_how_it_begins_and_blanks_are_not_removed() -> None:
    assert eventhallusion.read_answer("YES, it is") == "Yes."
    assert eventhallusion.read_answer("nothing happens") == "No."
    assert eventhallusion.read_answer(" Yes") is None
    assert eventhallusion.read_answer(None) is None


def test_asterisks_around_a_verdict_do_not_matter_and_an_empty_reply_is_not_read() -> None:
    assert eventhallusion.read_judgement("**Yes**. It does") == "yes"
    assert eventhallusion.read_judgement("") is None
    found = eventhallusion.score(
        {"entire": [Video(judgement=""), Video(judgement="*No*"), Video(judgement="yes")]}
    )
    assert (found.overall.descriptions, found.overall.unread_judgements) == pytest.approx((1 / 3, 1 / 3))


def test_a_video_nobody_judged_is_not_counted_as_refused() -> None:
    found = eventhallusion.score({"entire": [Video([("No.", "no")])]})
    assert (found.overall.questions, found.overall.descriptions, found.overall.n_judged) == (1, None, 0)


def test_nothing_to_score_is_refused() -> None:
    with pytest.raises(BadInput, match="no videos"):
        eventhallusion.score({"entire": []})
