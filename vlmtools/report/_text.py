"""Text that models, files and people wrote, made safe to look at; quoting is each format's own job."""

import re
import unicodedata

REPLACEMENT = "�"

_BIDI = [*range(0x202A, 0x202F), *range(0x2066, 0x206A)]
_CONTROL = [*range(0x09), *range(0x0B, 0x20), *range(0x7F, 0xA0)]
_NO_CHARACTER = [*range(0xD800, 0xE000), 0xFFFE, 0xFFFF]
_UNSAFE = re.compile("[" + "".join(f"\\U{code:08x}" for code in [*_BIDI, *_CONTROL, *_NO_CHARACTER]) + "]")


def clean(text: str) -> str:
    """Shows what cannot or must not be shown as �.

    Control characters (a terminal would obey them), characters that turn the reading direction of what
    follows (a name could pose as another one), and halves of surrogate pairs (they cannot be written to a
    file). Line breaks and tabs stay.

    Args:
        text: Anything.
    """
    return _UNSAFE.sub(REPLACEMENT, text.replace("\r\n", "\n"))


def one_line(text: str) -> str:
    """The cleaned text on one line, runs of blanks as one; never empty."""
    return clean(" ".join(text.split())) or "(no name)"


def shorten(text: str, width: int, dots: str = "…") -> str:
    """Cuts the middle out, because names of models often differ in their last letters only.

    Args:
        text: One line.
        width: Longest result in terminal cells, at least 1 + the width of `dots`.
        dots: What stands for the part left out.
    """
    if cells(text) <= width:
        return text
    head, tail = text, text
    room = width - len(dots)
    while cells(head) > room - room // 2:
        head = head[:-1]
    while cells(tail) > room // 2:
        tail = tail[1:]
    return head + dots + tail


def cells(text: str) -> int:
    """Terminal columns the text takes: two for wide East Asian characters, none for combining marks."""
    return sum(
        0 if unicodedata.combining(one) else 1 + (unicodedata.east_asian_width(one) in "WF") for one in text
    )


def number(value: float, digits: int = 3) -> str:
    """The number with a fixed count of decimals and a real minus sign, or – where there is none."""
    if value != value:
        return "–"
    return f"{value:.{digits}f}".replace("-", "−")


def p_value(p: float) -> str:
    """The p-value to three decimals; smaller ones as < 0.001."""
    return "< 0.001" if p < 0.001 else number(p)


def span(low: int, high: int) -> str:
    """A range of ranks: 2, or 1–3."""
    return str(low) if low == high else f"{low}–{high}"
