"""Two runs are compared on the same items, or not at all."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vlmtools.benchmarks._evaluation import Evaluation
from vlmtools.benchmarks.base import Said, score_answers
from vlmtools.benchmarks.pope import Pope
from vlmtools.compare import Loaded, compare, load_run
from vlmtools.compare.comparison import mcnemar
from vlmtools.errors import BadInput
from vlmtools.report.comparison import html
from vlmtools.report.evaluation import write_outputs
from vlmtools.types import Sample

N = 60


def run(name: str, right: set[int], n: int = N, protocol: str = "official", **record: Any) -> Loaded:
    """A run over n questions, those in `right` answered well; four questions share a picture."""
    benchmark = Pope(protocol=protocol)
    labels = {str(i): "no" if i % 3 else "yes" for i in range(n)}
    samples = {i: Sample(i, f"Is there a {i}?", image=f"{int(i) // 4}.jpg", reference=labels[i],
                         extra={"split": "random"}) for i in labels}  # fmt: skip
    said = {
        i: Said(label if int(i) in right else {"yes": "no", "no": "yes"}[label])
        for i, label in labels.items()
    }
    rows = score_answers(benchmark, samples, said)
    about = {"name": "pope", "settings": benchmark.settings, "protocol": protocol, "rule": "a rule"}
    full = {"benchmark": about, "interval": {"level": 0.95}, **record}
    return Loaded(name, Path(name), Evaluation("pope", protocol, {}, len(rows), 0, full, tuple(rows)))


def test_mcnemar_is_the_exact_binomial() -> None:
    assert mcnemar(0, 0) == 1.0 and mcnemar(5, 5) == 1.0
    assert mcnemar(0, 5) == 2 / 2**5
    assert mcnemar(2, 10) == pytest.approx(2 * sum(math.comb(12, k) for k in range(3)) / 2**12)
    assert 0 < mcnemar(900, 1100) < 1e-4


def test_the_accuracy_is_compared_by_mcnemar_and_the_rest_by_bootstrap() -> None:
    found = compare([run("a", set(range(30))), run("b", set(range(2, 52)))])
    tests = {test.metric: test for test in found.tests}
    accuracy = tests["accuracy"]
    assert (accuracy.method, accuracy.gained, accuracy.lost) == ("exact McNemar", 22, 2)
    assert accuracy.p == mcnemar(22, 2) and accuracy.better == 1
    assert (
        accuracy.difference == pytest.approx(20 / 60)
        and accuracy.ci[0] < accuracy.difference < accuracy.ci[1]
    )
    assert tests["f1"].method == "paired bootstrap" and tests["yes_rate"].better == 0
    assert all(test.p_holm >= test.p for test in found.tests)
    assert len(found.flips) == 24 and {flip.after.correct for flip in found.flips} == {True, False}


def test_a_run_against_itself_shows_no_difference() -> None:
    found = compare([run("a", set(range(30))), run("b", set(range(30)))])
    assert found.flips == () and all(test.difference == 0 and test.p_holm == 1 for test in found.tests)


def test_swapping_the_runs_only_turns_the_sign() -> None:
    a, b = run("a", set(range(30))), run("b", set(range(20, 52)))
    one, other = compare([a, b]), compare([b, a])
    for first, second in zip(one.tests, other.tests, strict=True):
        assert first.difference == pytest.approx(-second.difference) and first.p == pytest.approx(second.p)
        assert first.ci[0] == pytest.approx(-second.ci[1])


def test_settings_that_differ_come_first_and_equal_ones_are_not_told() -> None:
    a = run("a", set(), model={"identity": {"revision": "1", "quant": None}})
    b = run("b", set(), model={"identity": {"revision": "2", "quant": None}})
    assert compare([a, b]).settings == {"model.identity.revision": {"a": '"1"', "b": '"2"'}}


def test_other_items_are_refused_and_explained_and_shared_ones_compared_when_asked() -> None:
    a, b = run("a", set(range(10))), run("b", set(range(10)), n=40)
    with pytest.raises(BadInput, match="40 are shared, 20 are only in the first and 0 only in the second"):
        compare([a, b])
    found = compare([a, b], shared=True)
    assert "20 items" in found.notes[0] and all(test.value_a == test.value_b for test in found.tests)


def test_other_rules_are_refused() -> None:
    with pytest.raises(BadInput, match="by the rule lenient"):
        compare([run("a", set()), run("b", set(), protocol="lenient")])


def test_another_truth_is_refused() -> None:
    b = run("b", set())
    rows = (replace(b.found.rows[0], label="maybe"), *b.found.rows[1:])
    with pytest.raises(BadInput, match="The item '0' is not the same in both"):
        compare([run("a", set()), replace(b, found=replace(b.found, rows=rows))])


def test_a_single_run_has_nothing_to_be_compared_with() -> None:
    with pytest.raises(BadInput, match="needs two of each benchmark"):
        compare([run("a", set())])


def test_several_runs_are_corrected_together() -> None:
    runs = [run("a", set(range(30))), run("b", set(range(45))), run("c", set(range(46)))]
    found = compare(runs)
    smallest = min(test.p for test in found.tests)
    assert min(test.p_holm for test in found.tests) == pytest.approx(min(1, smallest * len(found.tests)))


def test_what_was_written_is_read_back_and_shown_safely(tmp_path: Path) -> None:
    wicked = run("a", set(range(30)))
    rows = (replace(wicked.found.rows[0], answer="<script>alert(1)</script>"), *wicked.found.rows[1:])
    for name, found in (("a", replace(wicked.found, rows=rows)), ("b", run("b", set(range(2, 40))).found)):
        write_outputs(tmp_path / name, found)
    loaded = [load_run(tmp_path / name) for name in "ab"]
    assert loaded[0].found.rows == rows
    page = html(compare(loaded))
    assert "<script>" not in page and "&lt;script&gt;" in page and page == html(compare(loaded))
    assert "<script>" not in (tmp_path / "a" / "report.html").read_text()


def test_a_folder_without_an_evaluation_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"evaluation.json' cannot be read"):
        load_run(tmp_path)
    (tmp_path / "evaluation.json").write_text(json.dumps({"bench": "pope"}))
    with pytest.raises(BadInput, match="is no evaluation"):
        load_run(tmp_path)
