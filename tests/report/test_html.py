"""The page: complete, the same every time, readable, and light."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from report.example_ranking import example_ranking

from vlmtools.crosscheck.ranking import Ranking, WorstClaim
from vlmtools.report._spans import pieces
from vlmtools.report.html import html

CSS = (Path(__file__).parents[2] / "vlmtools/report/templates/report.css").read_text(encoding="utf-8")


def test_the_same_ranking_gives_the_same_bytes(tmp_path: Path) -> None:
    ranking = example_ranking(tmp_path, n_worst=3)
    assert html(ranking) == html(Ranking.from_json(ranking.to_json(full=True)))


def test_the_page_names_nothing_outside_itself(tmp_path: Path) -> None:
    page = html(example_ranking(tmp_path, n_worst=2))
    assert not re.findall(r"https?:|//[a-z]|@import|url\(", page)
    assert all(link.startswith("#") for link in re.findall(r'href="([^"]*)', page))
    assert all(source.startswith("data:image/") for source in re.findall(r'src="([^"]*)', page))


def test_every_link_leads_somewhere() -> None:
    page = html(example_ranking())
    for target in re.findall(r'href="#([^"]*)', page):
        assert f'id="{target}"' in page


def test_the_policy_allows_the_pages_own_style_and_script_by_hash_only() -> None:
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html(example_ranking(n_worst=0)))
    assert policy
    assert "default-src &#39;none&#39;" in policy[1]
    assert "unsafe" not in policy[1]


def test_no_element_carries_a_style_attribute_which_the_policy_would_drop() -> None:
    assert " style=" not in html(example_ranking())


def test_twenty_claims_with_pictures_stay_below_three_megabytes(tmp_path: Path) -> None:
    from PIL import Image

    ranking = example_ranking(tmp_path)
    for claim in ranking.worst:
        Image.effect_noise((900, 700), 90).save(claim.media[0][1])
    page = html(ranking)
    assert page.count("data:image/") == 20
    assert len(page.encode()) < 3_000_000


def test_every_row_pair_setting_warning_and_record_entry_is_shown() -> None:
    ranking = example_ranking()
    page = html(ranking)
    assert page.count("num place") == 8
    assert page.count("not shown</td>") + page.count("<td>yes</td>") == len(ranking.pairs)
    for text in (*ranking.warnings, *ranking.sensitivity, "settings.seed", "answers/*.jsonl"):
        assert text in page


@pytest.mark.parametrize("n_models", [1, 2, 30])
@pytest.mark.parametrize("n_worst", [0, 2])
def test_rankings_of_any_size_render(n_models: int, n_worst: int) -> None:
    assert html(example_ranking(n_models=n_models, n_worst=n_worst)).endswith("</html>\n")


def test_an_empty_ranking_renders() -> None:
    assert "No model was ranked." in html(Ranking((), {}, (), (), {}, (), {}))


def test_missing_numbers_render_as_dashes_and_never_as_nan() -> None:
    ranking = example_ranking(n_models=3, n_worst=1)
    nan = float("nan")
    rows = [
        replace(row, score=nan, ci=(nan, nan), claims_per_item=nan, rank_loo=None, weight=None)
        for row in ranking.rows
    ]
    pairs = [
        replace(pair, p=nan, p_holm=nan, detectable=nan, ci=(nan, nan), difference=nan)
        for pair in ranking.pairs
    ]
    page = html(
        replace(ranking, rows=tuple(rows), pairs=tuple(pairs), agreement={rows[0].name: {rows[1].name: nan}})
    )
    assert not re.search(r"\bnan\b", page)


def test_an_answer_is_shown_whole_with_its_worst_claim_marked() -> None:
    answer = "A boat. A bus & <b>bold</b>. The end"
    claim = WorstClaim("1", "m", answer, "A bus", 8, 28, 0.9, ((0, 7, 0.1), (8, 28, 0.9)))
    assert "".join(piece.text for piece in pieces(claim)) == answer
    assert [piece.worst for piece in pieces(claim)] == [False, False, True, False]
    page = html(replace(example_ranking(), worst=(claim,)))
    assert (
        '<span class="g4 worst" title="score 0.90">A bus &amp; &lt;b&gt;bold&lt;/b&gt;.</span><sup>0.90</sup>'
        in page
    )


def test_spans_that_overlap_or_reach_beyond_the_answer_lose_no_text() -> None:
    spans = ((0, 99, 0.2), (2, 6, 0.9), (4, 3, 1.0), (-5, 1, 0.5), (8, 8, 0.7))
    claim = WorstClaim("1", "m", "abcdefgh", "c", 2, 6, 0.9, spans)
    found = pieces(claim)
    assert "".join(piece.text for piece in found) == "abcdefgh"
    assert {piece.text: piece.score for piece in found} == {"a": 0.5, "b": 0.2, "cdef": 0.9, "gh": 0.2}


def test_a_picture_that_is_missing_leaves_a_sentence(tmp_path: Path) -> None:
    claim = replace(example_ranking().worst[0], media=(("image", "no/such.png"), ("video", "clip.mp4")))
    page = html(replace(example_ranking(), worst=(claim,)))
    assert "file not found" in page
    assert "video is not shown in a report" in page


def _palette(block: str) -> dict[str, str]:
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block))


def _contrast(a: str, b: str) -> float:
    def light(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    bright, dark = sorted((light(a), light(b)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


PAIRS = [
    *(("ink", paper) for paper in ("paper", "card", "accent-soft")),
    ("soft", "paper"), ("accent", "paper"), ("soft", "card"),
    *(("on-low", f"h{shade}") for shade in range(5)), *(("on-high", f"h{shade}") for shade in range(5, 9)),
    *(("on-claim", f"g{grade}") for grade in range(1, 5)),
]  # fmt: skip


@pytest.mark.parametrize(("text", "paper"), PAIRS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_the_contrast_that_wcag_aa_asks_for(scheme: str, text: str, paper: str) -> None:
    light, dark = CSS.split("@media (prefers-color-scheme: dark)", 1)
    colours = _palette(light if scheme == "light" else dark.split("* {", 1)[0])
    assert _contrast(colours[text], colours[paper]) >= 4.5
