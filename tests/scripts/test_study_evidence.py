"""The study of panels, on made-up answers whose truth is known, and the benchmark of the driver."""

from pathlib import Path

import numpy as np
import pytest
import study_evidence as study

from vlmtools.crosscheck.panels import n_pairs

TRUTH = {f"{i}": frozenset({"cat", "dog"}) for i in range(60)}
NAMES = [f"m{k}" for k in range(6)]


@pytest.fixture(scope="module")
def group() -> study.Group:
    """Model k invents a thing in k of six images."""
    said = {
        name: {image: ["cat", "dog"] + (["bus", "cup"][int(image) % 2 :][:1] if int(image) % 6 < k else [])
               for image in TRUTH} for k, name in enumerate(NAMES)
    }  # fmt: skip
    return study.group("made up", said, NAMES, list(TRUTH), TRUTH)


def test_panels_use_the_share_of_votes_that_the_table_states(group: study.Group) -> None:
    every = len(group.book.votes.support)
    assert every == 60 * n_pairs(6, 0)
    for size in study.sizes(6, "uniform"):
        assert len(study.dealt(group.book, size, 0).votes.support) == 60 * n_pairs(6, size)
    assert len(study.dealt(group.book, 0, 0).votes.support) == every


def test_sizes_are_those_that_deal_differently() -> None:
    assert study.sizes(9, "uniform") == [2, 3, 5]
    assert study.sizes(9, "em") == [3, 5]
    assert study.sizes(5, "em") == [3]


def test_outcomes_are_kept_and_read_again(group: study.Group, tmp_path: Path) -> None:
    first = list(study.studied(group, 2, 20, tmp_path))
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    again = list(study.studied(group, 2, 20, tmp_path))
    assert again == first
    assert before == {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    whole = {method: outcomes[0] for method, size, _, outcomes in first if size == 0}
    assert all(one.moved == one.shift == 0 and one.spearman > 0.9 for one in whole.values())
    assert all(0 < one.width < 1 for _, _, _, outcomes in first for one in outcomes)
    drawn = study.columns("made up", first)
    assert [len(column.curves["uniform"]) for column in drawn] == [2, 2, 2]
    assert drawn[0].wholes["em"] == whole["em"].width


def test_the_truth_is_what_was_made_up(group: study.Group) -> None:
    assert (np.diff(group.truth) > 0).all()
    assert group.truth[0] == 0
