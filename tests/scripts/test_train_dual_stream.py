import json

import pytest
import torch
import train_dual_stream as dual
from PIL import Image

from vlmtools.backbones.crossvit import CrossViT
from vlmtools.errors import BadInput


class Linear(torch.nn.Module):
    """Class 1 is the brighter the picture."""

    def forward(self, pictures):
        bright = pictures.mean((1, 2, 3))
        return torch.stack([-bright, bright], dim=1)


def test_each_picture_is_turned_by_its_own_quarters():
    picture = torch.arange(4.0).reshape(1, 1, 2, 2).expand(4, 1, 2, 2)
    found = dual.turned(picture, torch.arange(4))
    assert found[:, 0].tolist() == [
        [[0, 1], [2, 3]],
        [[1, 3], [0, 2]],
        [[3, 2], [1, 0]],
        [[2, 0], [3, 1]],
    ]


def test_an_attack_stays_within_its_radius_and_lowers_the_right_logit():
    pictures, classes = torch.full((2, 3, 4, 4), 0.5), torch.tensor([0, 1])
    draw = torch.Generator().manual_seed(0)
    found = dual.attacked(Linear(), pictures, classes, 0.02, 0.05, draw)
    # the step is longer than twice the radius: it ends at the rim whatever the start
    torch.testing.assert_close(found[0], pictures[0] + 0.02)
    torch.testing.assert_close(found[1], pictures[1] - 0.02)
    assert dual.attacked(Linear(), pictures, classes, 0.0, 0.05, draw) is pictures


def test_pixels_stay_in_their_range():
    white = torch.ones(1, 3, 4, 4)
    found = dual.attacked(Linear(), white, torch.tensor([0]), 0.1, 0.3, torch.Generator().manual_seed(0))
    assert found.max() <= 1 and found.min() >= 0.9


def few():
    torch.manual_seed(0)
    shown = torch.rand(12, 3, 48, 48) * 0.2
    classes = torch.arange(12) % 2
    shown[classes == 1] += 0.6
    return shown, classes


def test_it_learns_what_turning_and_attacking_leave_and_goes_on_where_it_stopped(tmp_path):
    recipe = dual.Recipe(rate=3e-3, epochs=4, batch=4)

    def rows(recipe, folder):
        torch.manual_seed(0)
        return list(dual.train(CrossViT.tiny(num_classes=2), few(), few(), recipe, folder))

    whole = rows(recipe, tmp_path / "whole")
    assert whole[-1]["loss"] < whole[0]["loss"]
    assert whole[-1]["turned"] == whole[-1]["attacked"] == 1.0
    rows(dual.Recipe(rate=3e-3, epochs=2, batch=4), tmp_path / "cut")
    resumed = rows(recipe, tmp_path / "cut")
    assert resumed == whole
    assert [json.loads(one) for one in (tmp_path / "cut" / dual.CURVE).read_text().splitlines()] == whole
    with pytest.raises(BadInput, match="another folder"):
        rows(dual.Recipe(rate=1e-3), tmp_path / "cut")


def test_the_command_reads_a_folder_per_class_and_prints_a_line_per_epoch(tmp_path, capsys):
    for name, shade in (("dark", 20), ("light", 220)):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for index in range(2):
            Image.new("RGB", (60, 50), (shade, shade, shade)).save(
                tmp_path / "pictures" / name / f"{index}.png"
            )
    dual.main(
        ["--backbone", "tiny", "--size", "48", "--epochs", "1", "--pictures", str(tmp_path / "pictures"),
         "--out", str(tmp_path / "out")]
    )  # fmt: skip
    assert capsys.readouterr().out.startswith("epoch 1  loss ")


def test_a_folder_without_classes_is_refused(tmp_path):
    with pytest.raises(BadInput, match="one folder per class"):
        dual.folder(tmp_path, 8)
