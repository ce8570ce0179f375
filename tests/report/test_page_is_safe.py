"""Nothing a model, a file or a person wrote ever becomes markup."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report.example_ranking import example_ranking

from vlmtools.crosscheck.ranking import Evidence, Pair, Ranking, WorstClaim
from vlmtools.report._text import clean, one_line, shorten
from vlmtools.report.html import html

HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(1)</script>",
    "</style><script>alert(1)</script>",
    "</title><svg onload=alert(1)>",
    '" onmouseover="alert(1)" x=\'',
    "javascript:alert(1)",
    "{{ 7 * 7 }}{% raw %}",
    "]]><!--",
    "\x00\x1b[31m\u202egnp.exe\u2066",
    "\ud800 half",
    "&lt;script&gt;",
)


class Outline(HTMLParser):
    """Counts tags with their attribute names, and gathers the text of answers and policy-relevant values."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: Counter[str] = Counter()
        self.links: list[str] = []
        self.answer: list[str] = []
        self._inside = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag + " " + " ".join(sorted(name for name, _ in attrs))] += 1
        self.links += [value or "" for name, value in attrs if name in ("href", "src", "xlink:href")]
        if tag == "p" and dict(attrs).get("class") == "answer":
            self._inside = 1
        elif self._inside and tag == "sup":
            self._inside = 2

    def handle_endtag(self, tag: str) -> None:
        if tag == "sup" and self._inside:
            self._inside = 1
        elif tag == "p":
            self._inside = 0

    def handle_data(self, data: str) -> None:
        if self._inside == 1:
            self.answer.append(data)


def outline(page: str) -> Outline:
    page.encode("utf-8")
    parser = Outline()
    parser.feed(page)
    parser.close()
    return parser


def everywhere(text: str, answer: str) -> Ranking:
    """A ranking with the text in every place that holds one."""
    base = example_ranking(n_models=2, n_worst=0)
    names = [f"a{text}", f"b{text}"]
    rows = tuple(
        replace(row, name=name, modality=(text,), extra={text: 0.5})
        for row, name in zip(base.rows, names, strict=True)
    )
    middle = len(answer) // 2
    spans = ((0, middle, 0.2), (middle, len(answer), 0.9))
    said = (Evidence(names[1], text, 0.1),)
    worst = WorstClaim(
        text, names[0], answer, text, middle, len(answer), 0.9, spans, said, (("image", text),), "?" + text
    )
    return Ranking(
        rows=rows,
        agreement={names[0]: {names[1]: 0.5}, names[1]: {names[0]: 0.7}},
        pairs=(Pair(names[0], names[1], 0.1, (0.0, 0.2), 0.1, 0.1, 0.1),),
        worst=(worst,),
        sensitivity={text: {names[0]: 2, names[1]: 1}},
        warnings=(text,),
        record=_record(text),
    )


def _record(text: str) -> Mapping[str, object]:
    return {"command": "!" + text, "settings": {"judge": {"name": text}, "k" + text: [text, 1, {"x": text}]}}


PLAIN = outline(html(everywhere("plain", "One two.")))


def same_markup(found: Outline) -> bool:
    return found.tags == PLAIN.tags and all(link.startswith("#") for link in found.links)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_in_every_field_adds_no_tag_no_attribute_and_no_link(text: str) -> None:
    assert same_markup(outline(html(everywhere(text, "One" + text), title="Title " + text)))


@settings(max_examples=60, deadline=None)
@given(
    st.text(st.characters(exclude_categories=()), min_size=1, max_size=60), st.sampled_from(["", *HOSTILE])
)
def test_any_text_keeps_the_markup_as_it_is_and_the_answer_as_it_was(text: str, hostile: str) -> None:
    answer = "A " + text + hostile + " z"
    found = outline(html(everywhere(text + hostile, answer)))
    assert same_markup(found)
    assert "".join(found.answer) == _as_a_browser_reads(answer)


def _as_a_browser_reads(answer: str) -> str:
    middle = len(answer) // 2
    return clean(answer[:middle]) + clean(answer[middle:])


@given(st.text(st.characters(exclude_categories=())))
def test_cleaned_text_can_be_written_and_obeys_nothing(text: str) -> None:
    done = clean(text)
    done.encode("utf-8")
    assert not any(sign in done for sign in "\x00\x1b\x07\x9b\x7f\r\u202a\u202e\u2066\u2069")
    assert clean(done) == done
    assert len(one_line(text)) > 0


@given(st.text(), st.integers(4, 40))
def test_a_shortened_name_fits_and_a_short_one_is_left_alone(text: str, width: int) -> None:
    from vlmtools.report._text import cells

    assert cells(shorten(text, width)) <= width
    assert shorten(text, width) == text or cells(text) > width
