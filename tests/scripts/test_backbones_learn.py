import json

import backbones_learn
import pytest


def test_a_few_steps_lower_the_loss_and_are_kept(tmp_path, capsys):
    rows = backbones_learn.run(["evit"], steps=24, batch=16, folder=tmp_path)
    assert rows[0].last < rows[0].first and 0 <= rows[0].accuracy <= 1
    assert "evit" in backbones_learn.table(rows)
    path = next(tmp_path.glob("evit-*.json"))
    path.write_text(path.read_text().replace('"steps": 24', '"steps": 25'))
    assert backbones_learn.run(["evit"], steps=24, batch=16, folder=tmp_path)[0].steps == 25, "trained again"


def test_a_stopped_run_ends_as_an_uninterrupted_one(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert backbones_learn.learn("evit", 6, 4, tmp_path / "a", stop_at=3) is None
    resumed = backbones_learn.learn("evit", 6, 4, tmp_path / "a")
    assert resumed == backbones_learn.learn("evit", 6, 4, tmp_path / "b")


def test_digits_are_split_without_overlap():
    pytest.importorskip("sklearn")
    images, labels, test_images, test_labels = backbones_learn.digits(16)
    assert len(labels) + len(test_labels) == 1797 and len(test_labels) == 300
    assert images.shape[1:] == (3, 16, 16) and images.abs().max() <= 1.0
    assert len(test_images) == len(test_labels)


def test_a_row_is_kept_in_the_place_of_its_older_self(tmp_path):
    path = tmp_path / "learn.json"
    for accuracy in (0.2, 0.9):
        backbones_learn.record(path, [backbones_learn.Learnt("evit", 3, 2.0, 1.0, accuracy)])
    backbones_learn.record(path, [backbones_learn.Learnt("biformer", 3, 2.0, 1.0, 0.5)])
    assert [(one["name"], one["accuracy"]) for one in json.loads(path.read_text())] == [
        ("biformer", 0.5),
        ("evit", 0.9),
    ]
