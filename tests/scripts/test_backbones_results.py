import json

import backbones_results
import pytest


def test_wilsons_interval_of_known_shares():
    # 8 of 10: Brown, Cai and DasGupta 2001, formula 4
    assert backbones_results.wilson(0.8, 10) == pytest.approx((0.4902, 0.9433), abs=5e-4)
    low, high = backbones_results.wilson(0.0, 10)
    assert low == pytest.approx(0.0, abs=1e-12) and high == pytest.approx(0.2775, abs=5e-4)


def test_plain_models_and_the_authors_own_are_shown_apart():
    row = {
        "name": "smt", "n_params": 10, "other_params": 11, "per_second": 2.0, "ratio": 1.5, "peak_mib": 1.0,
        "other_mib": 2.0, "beside": "SwinModel", "setting": "batch 1",
    }  # fmt: skip
    text = backbones_results.speed([row, {**row, "name": "smt_t", "beside": "SMT", "ratio": 0.9}])
    ours, theirs = text.split(backbones_results.AUTHORS)
    assert "| smt | Swin | 10 | 2.0 | 1.50 |" in ours and "| smt_t | SMT | 10 | 2.0 | 0.90 |" in theirs


def test_what_was_not_recorded_is_not_shown(tmp_path, monkeypatch):
    monkeypatch.setattr(backbones_results, "STUDY", tmp_path)
    assert backbones_results.sections() == ""
    row = {"name": "smt", "steps": 1500, "first": 2.3, "last": 0.1, "accuracy": 0.9}
    (tmp_path / "learn.json").write_text(json.dumps([row]))
    assert "| smt | 1,500 | 2.30 | 0.10 | 90.0% [86.1%, 92.9%] |" in backbones_results.sections()
