"""The page in a real browser: no errors, no sideways scrolling, and nothing hostile runs."""

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from report.example_ranking import example_ranking

from vlmtools.crosscheck.ranking import Ranking
from vlmtools.report.html import html

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
BROWSER = next((path for path in map(shutil.which, BROWSERS) if path), None)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason=f"none of {', '.join(BROWSERS)} is installed"),
]

POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')
RAN = "parent.postMessage('ran', '*')"
FRAME = """<!doctype html><body><pre id="log"></pre><script>
onmessage = function (event) { document.getElementById("log").textContent += event.data + ";"; };
</script><iframe src="page.html" width="390" height="900"></iframe></body>"""
WIDTHS = """<script>onload = function () {
  var root = document.documentElement;
  document.querySelectorAll("details").forEach(function (one) { one.open = true; });
  parent.postMessage("beyond the edge: " + (root.scrollWidth - root.clientWidth), "*");
};</script>"""
FITS = "beyond the edge: 0;"
FILTER = """<script>addEventListener("load", function () {
  var pick = document.getElementById("by-model");
  pick.value = "0";
  pick.dispatchEvent(new Event("change"));
  parent.postMessage(document.querySelectorAll("article:not([hidden])").length + " shown", "*");
});</script>"""


def shown(page: Path, profile: Path) -> tuple[str, list[str]]:
    """The page's DOM after its scripts ran, and what the console said."""
    flags = (
        "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
        "--disable-component-update --disable-sync --disable-dev-shm-usage --enable-logging=stderr "
        f"--virtual-time-budget=3000 --user-data-dir={profile} --dump-dom"
    ).split()
    done = subprocess.run(
        [str(BROWSER), *flags, page.as_uri()], capture_output=True, text=True, timeout=90, check=True
    )
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def framed(page: str, folder: Path) -> str:
    """What the page told its frame, 390 pixels wide, with its policy taken off."""
    (folder / "page.html").write_text(
        POLICY.sub("", page).replace("</body>", WIDTHS + "</body>"), encoding="utf-8"
    )
    (folder / "frame.html").write_text(FRAME, encoding="utf-8")
    dom, _ = shown(folder / "frame.html", folder / "profile")
    found = re.search(r'<pre id="log">(.*?)</pre>', dom)
    assert found
    return found[1]


def test_the_page_runs_under_its_own_policy_without_a_word_on_the_console(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(html(example_ranking(tmp_path)), encoding="utf-8")
    dom, console = shown(path, tmp_path / "profile")
    assert console == []
    assert "20 of 20" in dom


@pytest.mark.parametrize("n_models", [2, 8, 30])
def test_a_phone_never_scrolls_sideways(tmp_path: Path, n_models: int) -> None:
    names = ["organisation/" + "very-long-" * 12 + "7b", "x" * 200]
    assert (
        framed(html(example_ranking(tmp_path, n_models=n_models, names=names, n_worst=4)), tmp_path) == FITS
    )


def hostile() -> Ranking:
    texts = [
        f'<img src=x onerror="{RAN}">',
        f"</script><script>{RAN}</script>",
        f"javascript:{RAN}",
        f'"><svg onload="{RAN}">',
    ]
    ranking = example_ranking(names=texts)
    worst = [
        replace(claim, answer=text * 3, claim=text, prompt=text, media=(("image", text),))
        for claim, text in zip(ranking.worst, texts, strict=False)
    ]
    return replace(
        ranking,
        worst=tuple(worst),
        warnings=tuple(texts),
        record={"command": texts[0], **dict.fromkeys(texts, texts[1])},
    )


def test_no_hostile_answer_name_or_path_runs_even_without_the_policy(tmp_path: Path) -> None:
    assert framed(html(hostile()), tmp_path) == FITS


def test_the_check_for_hostile_text_can_fail(tmp_path: Path) -> None:
    page = html(example_ranking(n_worst=1)).replace("</main>", f'<img src=x onerror="{RAN}"></main>')
    assert "ran;" in framed(page, tmp_path)


def test_the_filter_leaves_the_claims_of_one_model(tmp_path: Path) -> None:
    ranking = example_ranking()
    page = html(ranking).replace("</body>", FILTER + "</body>")
    of_first = sum(claim.model == ranking.worst[0].model for claim in ranking.worst)
    assert f"{of_first} shown;" in framed(page, tmp_path)


def test_a_page_that_is_too_wide_is_noticed(tmp_path: Path) -> None:
    page = html(example_ranking(n_worst=0)).replace("</main>", '<pre><svg width="900"></svg></pre></main>')
    assert framed(page, tmp_path) != FITS
