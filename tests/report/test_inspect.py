"""The page about one answer: complete, safe, and drawn where the model looked."""

import base64
import html
import math
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from report.test_in_a_browser import BROWSER, framed, shown

from vlmtools.report._inspect_grid import Grid, find_grid, run_lengths
from vlmtools.report._inspection import Inspection, Word, _maps, _pooled_grid, _words
from vlmtools.report.inspect import level_of, page
from vlmtools.report.media import Picture

PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42m"
    "Nk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(1)</script>",
    '" onmouseover="alert(1)" x=\'',
    "{{ 7 * 7 }}{% raw %}",
    "\x00\x1b[31m\u202egnp.exe",
)


def example(text: str = "", side: int = 4, layers: int = 3, heads: int = 4) -> Inspection:
    """An inspection with the text wherever one can be written."""
    said = ["Three", " sailing", " boats", " on" + text, " a", " calm", " sea."]
    words = tuple(Word(word, 1.0 + math.sin(3 * i) ** 2, 1 + i % 2) for i, word in enumerate(said))
    n_maps = 1 + layers * (heads + 1) + len(words)
    return Inspection(
        model="llava-1.5-7b-hf" + text,
        prompt="How many boats are there?" + text,
        words=words,
        layers=tuple(range(layers)),
        vhd=tuple(tuple(abs(math.sin(7 * i + 3 * j)) * i for j in range(heads)) for i in range(layers)),
        mass=tuple(tuple(abs(math.cos(5 * i + j)) * 0.5 for j in range(heads)) for i in range(layers)),
        chosen=tuple(tuple(range(heads // 2)) for _ in range(layers)),
        picture=Picture("image", "boats.png", PIXEL, 480, 480),
        grid=Grid(side, side),
        maps=b"".join(_blob(i, side) for i in range(n_maps)),
        notes=("Tiles are left out." + text,),
        record={"command": "vlmtools inspect" + text, "k" + text: text or "v"},
    )


def _blob(seed: int, side: int) -> bytes:
    x, y = side * (0.5 + 0.4 * math.sin(seed)), side * (0.5 + 0.4 * math.cos(2 * seed))
    places = [(i % side, i // side) for i in range(side**2)]
    return bytes(int(255 * math.exp(-((a - x) ** 2 + (b - y) ** 2) * 12 / side**2)) for a, b in places)


class Outline(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: Counter[str] = Counter()
        self.links: list[str] = []
        self.said: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag + " " + " ".join(sorted(name for name, _ in attrs))] += 1
        self.links += [value or "" for name, value in attrs if name in ("href", "src", "xlink:href")]

    def handle_data(self, data: str) -> None:
        self.said.append(data)


def outline(text: str) -> Outline:
    text.encode("utf-8")
    parser = Outline()
    parser.feed(text)
    parser.close()
    return parser


def test_the_page_shows_every_word_every_head_and_every_cell() -> None:
    found = outline(page(example()))
    assert found.tags["button class data-word title type"] == 7
    assert (
        sum(n for name, n in found.tags.items() if "data-head" in name and name.startswith("rect"))
        == 2 * 3 * 4
    )
    assert found.tags["rect fill-opacity height width x y"] == 16
    assert found.tags["circle class cx cy r"] == 6
    shown = " ".join("".join(found.said).split())
    for text in (
        "How many boats are there?",
        "6 heads that VHR would strengthen",
        "in 7 words",
        "Tiles are left out.",
    ):
        assert text in shown


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_anywhere_adds_no_tag_and_no_attribute(text: str) -> None:
    found = outline(page(example(text)))
    assert found.tags == outline(page(example("plain"))).tags
    assert found.links == [PIXEL]


def test_the_page_names_style_and_script_by_hash_and_nothing_else() -> None:
    text = page(example())
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy
    assert "default-src 'none'" in html.unescape(policy[1])
    assert "unsafe" not in policy[1]
    assert " style=" not in text, "the policy would block it"
    assert "http" not in text.replace("http-equiv", "")


def test_the_same_inspection_gives_the_same_page() -> None:
    assert page(example()) == page(example())


def test_without_a_grid_the_picture_stands_alone_and_words_stay() -> None:
    plain = example()
    text = page(Inspection(prompt="?", words=plain.words, picture=plain.picture, layers=(0,), vhd=((1.0,),)))
    found = outline(text)
    assert found.tags["img alt height src width"] == 1
    assert not found.tags["rect fill-opacity height width x y"]
    assert "Choose a word" not in text
    assert "came without a record" in text
    assert "The picture file not found." in page(Inspection(picture=Picture(why="file not found")))


def test_every_map_reaches_the_page_in_order() -> None:
    found = example()
    stored = re.search(r'data-maps="([^"]*)"', page(found))
    assert stored
    assert base64.b64decode(stored[1]) == found.maps


def test_maps_are_scaled_to_their_own_brightest_piece_by_the_root() -> None:
    weights = torch.zeros(2, 3, 2, 6)  # layers, steps, heads, pieces; the grid starts at piece 2
    weights[0, :, 0, 2], weights[0, :, 0, 5] = 0.4, 0.1
    weights[1, 2, 1, 3] = 0.2
    maps = _maps(weights, Grid(2, 2, first=2), [[0, 1], [2]])
    cells = [list(maps[4 * i : 4 * i + 4]) for i in range(1 + 2 * 3 + 2)]
    assert cells[2] == [255, 0, 0, 128], "layer 0, head 0"
    assert cells[3] == [0, 0, 0, 0], "layer 0, head 1 saw nothing"
    assert cells[6] == [0, 255, 0, 0], "layer 1, head 1"
    assert cells[7] == [255, 0, 0, 128], "the first word"
    assert cells[8] == [255, 180, 0, 128], "the second word"


def test_fine_grids_are_pooled() -> None:
    grid = Grid(50, 40)
    assert _pooled_grid(grid) == Grid(25, 20)
    maps = _maps(torch.ones(1, 1, 1, 2000), grid, [[0]])
    assert set(maps) == {255}
    assert len(maps) == 4 * 500


class Decoder:
    """Numbers are the tokens' texts."""

    texts = ("Three", " sail", "ing", " boats", "。", "船", "上", "\n", "ok")

    def decode(self, ids: list[int], **_: object) -> str:
        return "".join(self.texts[i] for i in ids)


def test_tokens_become_words_at_blanks_and_stand_alone_in_writing_without() -> None:
    words, members = _words(Decoder(), range(9), [1.0, 2.0, 4.0, 3.0, 5.0, 6.0, 7.0, 8.0, 9.0])
    assert [word.text for word in words] == ["Three", " sailing", " boats", "。", "船", "上", "\nok"]
    assert members[1] == [1, 2]
    assert words[1] == Word(" sailing", 3.0, 2)


def config(**values: object) -> SimpleNamespace:
    return SimpleNamespace(vision_config=SimpleNamespace(image_size=336, patch_size=14), **values)


@pytest.mark.parametrize(
    ("kind", "runs", "inputs", "grid"),
    [
        ("llava", [576], {}, Grid(24, 24)),
        ("qwen2_5_vl", [6], {"image_grid_thw": torch.tensor([[1, 4, 6]])}, Grid(2, 3)),
        ("mistral3", [5, 5, 5], {}, Grid(3, 5)),
        ("idefics3", [64, 64, 64], {}, Grid(8, 8, 128, "tiles")),
        ("smolvlm", [64], {}, Grid(8, 8)),
        ("llava_next", [2880], {}, Grid(24, 24, 0, "tiles")),
        ("internvl", [768], {}, Grid(16, 16, 512, "tiles")),
        ("mllama", [1], {}, Grid(0, 0, 0, "none")),
        ("instructblip", [32], {}, Grid(0, 0, 0, "none")),
        ("something", [7], {}, Grid(0, 0, 0, "none")),
        ("something", [4, 9], {}, Grid(0, 0, 0, "none")),
    ],
)
def test_the_grid_follows_the_layout_of_each_family(
    kind: str, runs: list[int], inputs: dict[str, object], grid: Grid
) -> None:
    found = find_grid(kind, runs, inputs, config(image_seq_length=256 if kind == "internvl" else None))
    assert (found.rows, found.columns, found.first) == (grid.rows, grid.columns, grid.first)
    assert bool(found.note) is bool(grid.note)


def test_runs_of_image_tokens_are_counted() -> None:
    assert run_lengths([False, True, True, False, True]) == [2, 1]
    assert run_lengths([]) == []


CLICKS = """<script>addEventListener("load", function () {
  var said = function () { return document.getElementById("looking").textContent; };
  var veil = function () { return document.getElementById("veil").children[0].getAttribute("fill-opacity"); };
  document.querySelector('rect[data-layer="2"][data-head="3"]').dispatchEvent(new Event("click"));
  parent.postMessage(said() + " " + veil() + " " + document.getElementById("head-value").textContent, "*");
  document.querySelectorAll("button[data-word]")[2].click();
  parent.postMessage(said() + " " + veil(), "*");
});</script>"""


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
def test_choosing_a_head_or_a_word_redraws_the_picture(tmp_path: Path) -> None:
    found = example()
    told = framed(page(found).replace("</body>", CLICKS + "</body>"), tmp_path)
    head, word = found.maps[16 * (1 + 2 * 5 + 4)], found.maps[16 * (1 + 3 * 5 + 2)]
    assert (
        f"Layer 2, head 3, over the whole answer. {0.86 * (1 - head / 255):.2f} layer 2, head 3: VHD" in told
    )
    assert "While it wrote “boats”" in told
    assert f" {0.86 * (1 - word / 255):.2f};" in told
    assert "beyond the edge: 0;" in told


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
def test_the_page_runs_under_its_own_policy_and_nothing_hostile_runs(tmp_path: Path) -> None:
    path = tmp_path / "inspect.html"
    path.write_text(page(example()), encoding="utf-8")
    assert shown(path, tmp_path / "profile")[1] == []
    hostile = "<img src=x onerror=\"parent.postMessage('ran', '*')\">"
    assert "ran" not in framed(page(example(hostile)), tmp_path).replace("beyond the edge: 0;", "")


def test_levels_stay_within_the_scale() -> None:
    assert [level_of(share) for share in (-1.0, 0.0, 0.5, 0.999, 1.0, 7.0)] == [0, 0, 4, 8, 8, 8]
