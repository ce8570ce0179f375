import pytest
from places import published

from vlmtools.benchmarks.base import Said, score_answers
from vlmtools.benchmarks.mhalubench import Mhalubench
from vlmtools.errors import BadInput


@pytest.fixture
def samples():
    return {sample.id: sample for sample in Mhalubench().samples(published("mhalubench"))}


@pytest.mark.golden
def test_the_labels_themselves_are_perfect_and_have_the_published_rates(samples):
    benchmark = Mhalubench()
    rows = score_answers(benchmark, samples, {id: Said(str(s.reference)) for id, s in samples.items()})
    found = benchmark.values(rows)
    assert (len(rows), found["macro_f1"], found["macro_f1/segment"]) == (
        1142,
        pytest.approx(1),
        pytest.approx(1),
    )
    assert [round(100 * found[name], 2) for name in ("label_rate", "label_rate/segment")] == [53.68, 65.66]


@pytest.mark.golden
def test_calling_everything_right_finds_nothing(samples):
    benchmark = Mhalubench()
    found = benchmark.values(score_answers(benchmark, samples, {id: Said("Yes, it is.") for id in samples}))
    assert found["recall"] == 0 and found["accuracy"] == pytest.approx(529 / 1142)
    assert found["accuracy/segment"] == pytest.approx(227 / 661)


@pytest.mark.golden
def test_an_unread_verdict_is_faithful_and_shown_as_unread(samples):
    row = Mhalubench().score(next(iter(samples.values())), Said("The picture is nice"))
    assert row.parsed is None and sum(row.numbers[name] for name in row.numbers if name in ("tn", "fn")) == 1


def test_another_layout_is_refused(tmp_path):
    (tmp_path / "x.json").write_text('[{"a": 1}]')
    with pytest.raises(BadInput, match="annotation"):
        list(Mhalubench().samples(tmp_path))
