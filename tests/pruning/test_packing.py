"""Packing: which columns stay, in which order, and where the views of tiled pictures lie."""

import torch
from matrix import family
from pruning_cases import First, padded

from vlmtools.families.base import noise
from vlmtools.pruning._layout import block_means
from vlmtools.pruning._packing import Area, columns_of, cut, kept_places
from vlmtools.pruning.base import Selection
from vlmtools.pruning.grid import even_grid


def test_columns_stay_in_order_and_rows_are_filled_up_on_the_left() -> None:
    image = torch.tensor([[0, 0, 1, 1, 1, 0], [0, 1, 1, 1, 0, 1]]).bool()
    areas = [Area(torch.arange(3), (1, 3)), Area(torch.arange(3, 7), (2, 2))]
    kept = kept_places(7, areas, [Selection(torch.tensor([1])), Selection(torch.tensor([0, 3]))])
    columns = columns_of([image], [kept])
    assert [one.tolist() for one in columns] == [[0, 1, 3, 5], [0, 1, 4, 5]]
    shape = cut(columns, torch.tensor([[0, 1, 1, 1, 1, 1], [1] * 6]).bool())
    assert shape.columns.tolist() == [[0, 1, 3, 5], [0, 1, 4, 5]]
    assert shape.of(torch.arange(12).reshape(2, 6), -1).tolist() == [[-1, 1, 3, 5], [6, 7, 10, 11]]


def test_merged_tokens_stand_behind_their_view_and_take_a_position_from_it() -> None:
    image = torch.tensor([[0, 1, 1, 1, 1, 0, 1]]).bool()
    merged = Selection(torch.tensor([2]), {}, torch.zeros(1, 4), torch.tensor([0]))
    kept = kept_places(5, [Area(torch.arange(4), (2, 2))], [merged])
    assert kept.source.tolist() == [2, 0, 4]
    assert columns_of([image], [kept])[0].tolist() == [0, 3, 1, 5, 6]


def test_padding_that_is_in_every_row_goes_and_a_spare_column_can_be_asked_for() -> None:
    columns = [torch.tensor([0, 1, 4]), torch.tensor([0, 2, 3, 4])]
    real = torch.tensor([[0, 0, 1, 1, 1], [0, 0, 1, 1, 1]]).bool()
    shape = cut(columns, real)
    assert shape.columns.tolist() == [[0, 0, 4], [2, 3, 4]]
    assert shape.filler.tolist() == [[True, True, False], [False, False, False]]
    assert cut(columns, real, spare=1).columns.shape == (2, 4)


def test_block_means_leave_out_what_fills_no_square() -> None:
    values = torch.arange(15.0)[:, None]
    assert block_means(values, (3, 5), 2)[:, 0].tolist() == [3.0, 5.0]


def test_a_grid_is_spread_over_the_whole_picture() -> None:
    for height, width in ((24, 24), (3, 7), (1, 5), (8, 2)):
        for n_keep in range(1, height * width + 1):
            found = even_grid((height, width), n_keep).tolist()
            assert len(set(found)) == n_keep == len(found)
            assert found == sorted(found) and found[0] >= 0 and found[-1] < height * width
    rows = {one // 24 for one in even_grid((24, 24), 16).tolist()}
    columns = {one % 24 for one in even_grid((24, 24), 16).tolist()}
    assert rows == columns == {3, 9, 15, 21}


def test_line_ends_of_a_mosaic_stay_whatever_is_kept() -> None:
    """Four tiles in a row are cut to the shape of a wide picture, and every line of the mosaic has an end token."""
    from transformers import AutoModelForImageTextToText

    config = family("llava_next").tiny_config()
    config.image_grid_pinpoints = [[12, 48]]
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(config).eval()
    media = {"pixel_values": noise((1, 5, 3, 12, 12), 0), "image_sizes": torch.tensor([[10, 80]])}
    with torch.no_grad():
        (packed,) = model.model.get_image_features(**media).pooler_output
        newline = model.model.image_newline
    ends = (packed == newline).all(-1).nonzero()[:, 0].tolist()
    assert 1 <= len(ends) < 3, "the mosaic was cut to the shape of the picture"
    batch = padded("llava_next", [[1, *[127] * len(packed), 5]], media)
    pruner = First(keep=2)
    with pruner.attach(model) as on, torch.no_grad():
        model(**batch)
        report = on.report()
    assert [one.grid for one in report.views] == [(3, 3), (len(ends), 12)]
    assert report.n_after == 2 + 2 + len(ends)
    assert torch.allclose(pruner.log[1].features[:2], packed[9:11])
    assert torch.allclose(pruner.log[1].features[-1], packed[ends[-1] - 1])
