"""The page about one answer with a pruner: which tokens stay, where they lie, and why."""

import re
from dataclasses import replace

import pytest
import torch
from report.test_inspect import HOSTILE, example, outline

from vlmtools.pruning._spec import as_text
from vlmtools.pruning.base import Report, Selection, View
from vlmtools.pruning.hiprune import HiPrune
from vlmtools.report._kept import Kept, KeptView, draw, kept_of, legend
from vlmtools.report.inspect import page


def view(grid: tuple[int, int] = (3, 4), kept: tuple[int, ...] = (0, 5, 11), **kinds: list[int]) -> View:
    named = {kind: torch.tensor(tokens) for kind, tokens in kinds.items()}
    return View(0, "image", grid, Selection(torch.tensor(kept), named))


def of(*views: View, kind: str = "llava") -> Kept:
    return kept_of(Report(views, 12, 3, 20, 11), kind, "hiprune:keep=0.25", "A cat.")


def test_every_kept_token_is_drawn_once_under_its_first_reason() -> None:
    one = of(view(anchor=[5], buffer=[5, 11])).views[0]
    assert (one.rows, one.columns) == (3, 4)
    assert one.kinds == {"anchor": (5,), "buffer": (11,), "kept": (0,)}


def test_merged_tokens_are_drawn_where_they_stand() -> None:
    chosen = Selection(torch.tensor([0]), {"fused": torch.tensor([7])}, torch.zeros(1, 2), torch.tensor([7]))
    assert of(View(0, "image", (3, 4), chosen)).views[0].kinds == {"fused": (7,), "kept": (0,)}


@pytest.mark.parametrize(
    ("kind", "n", "drawn", "left"),
    [("llava", 1, [0], 0), ("llava_next", 2, [0, 1], 0), ("internvl", 3, [2], 2), ("gemma3", 3, [0], 2)],
)
def test_views_of_the_whole_picture_are_drawn_and_tiles_are_counted(
    kind: str, n: int, drawn: list[int], left: int
) -> None:
    found = of(*(view(kept=(i,)) for i in range(n)), kind=kind)
    assert [one.kinds["kept"] for one in found.views] == [(i,) for i in drawn]
    assert bool(found.note) is bool(left) and str(left or "") in found.note


def test_tokens_without_a_known_grid_are_not_drawn() -> None:
    found = of(view(grid=(1, 12)))
    assert not found.views and "not drawn" in found.note


def test_squares_lie_on_the_grid_of_the_picture() -> None:
    drawing = str(draw(example().picture, KeptView("", 3, 4, {"anchor": (5,), "register": (0, 11)})))
    gone, anchor, register = re.findall(r' d="([^"]*)"', drawing)
    assert gone.count("z") == 9 and anchor.count("z") == 1 and register.count("z") == 2
    assert gone.startswith("M120.00 0.00h120.00v160.00h-120.00z")
    assert anchor.startswith("M122.00 162.00h116.00v156.00")
    assert 'cx="180" cy="240"' in drawing, "an anchor has a dot"


def test_the_page_names_counts_answers_and_reasons() -> None:
    kept = of(view(anchor=[5], register=[0, 11]))
    said = " ".join("".join(outline(page(replace(example(), kept=kept))).said).split())
    for text in (
        "keeps 3 of 12 visual tokens",
        "A cat.",
        "1 anchor: most attended",
        "2 register",
        "9 dropped",
    ):
        assert text in said
    same = replace(kept, answer=example().answer)
    assert "the same" in page(replace(example(), kept=same))
    assert "What pruning keeps" not in page(example())


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_answers_methods_and_reasons_add_no_tag(text: str) -> None:
    def shown(text: str) -> str:
        kinds = KeptView(text, 3, 4, {"a" + text: (1,)})
        return page(replace(example(), kept=Kept("m" + text, text, (kinds,), 12, 1, text)))

    assert outline(shown(text)).tags == outline(shown("plain")).tags


def test_a_legend_has_a_line_per_reason() -> None:
    lines = legend(KeptView("", 3, 4, {"anchor": (5,), "unheard": (0, 11)}))
    assert [(one["kind"], one["n"], one["colour"]) for one in lines] == [("anchor", 1, 0), ("unheard", 2, 1)]
    assert lines[0]["reason"] and not lines[1]["reason"]


def test_a_pruner_is_named_as_it_would_be_typed() -> None:
    assert as_text(HiPrune(keep=0.33)) == "hiprune:keep=0.33"
    assert as_text(HiPrune(keep=64, alpha=0.2)) == "hiprune:keep=64,alpha=0.2"
