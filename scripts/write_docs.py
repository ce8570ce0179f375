"""Write `docs/catalogue.md`, `docs/benchmarks-list.md` and `docs/backbones.md` from what the plugins say of themselves.

python scripts/write_docs.py             # writes the pages
python scripts/write_docs.py --check     # exit code 1 when a page is out of date; `make check` runs this
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import backbones_page

from vlmtools.backbones._table import rows
from vlmtools.benchmarks.base import load_benchmark
from vlmtools.cli.bench import facts
from vlmtools.registry import KINDS, names, summary

DOCS = Path(__file__).resolve().parent.parent / "docs"
ABOUT: dict[str, str] = {
    "adapters": "Trainable connectors and adapters.",
    "backbones": "Vision encoders.",
    "benchmarks": "Hallucination benchmarks.",
    "families": "Hugging Face model families whose parts are known by name; the names are `model_type`s.",
    "judges": "What decides whether evidence supports a claim: `vlmtools crosscheck --judge <name>`.",
    "patches": "Training-free methods that change a loaded model while attached.",
    "pruners": "Training-free methods that drop visual tokens.",
}
"""Kind → the sentence under its heading."""
HEAD = """# Catalogue

Written by `scripts/write_docs.py` from the first line of each file's docstring; do not edit. `vlmtools list` prints the
same.
"""
LIST_HEAD = """# The benchmarks, one by one

Written by `scripts/write_docs.py` from the benchmarks' classes; do not edit. `vlmtools bench show NAME` prints the same
and the settings. How to evaluate stands in [evaluating.md](evaluating.md), a table of published captions in
[benchmarks.md](benchmarks.md).

"Checked" says against what the scores were compared, and what was not tried. It is about the counting only: whether a
model behind a judge judges well is a question of its own.
"""


def catalogue() -> dict[str, dict[str, str]]:
    """Kind → name → summary, of the files in this repository (plugins of other packages are left out)."""
    return {kind: _own(package) for kind, package in KINDS.items()}


def _own(package: str) -> dict[str, str]:
    found = {name: summary(package, name) for name in names(package)}
    return {name: text for name, text in found.items() if not text.startswith("from ")}


def page(content: Mapping[str, Mapping[str, str]]) -> str:
    """The whole page as Markdown.

    Args:
        content: Kind → name → summary.
    """
    return HEAD + "".join(_section(kind, content[kind]) for kind in sorted(content))


def _section(kind: str, entries: Mapping[str, str]) -> str:
    rows = "".join(
        f"| `{name}` | {text.replace('|', chr(92) + '|')} |\n" for name, text in sorted(entries.items())
    )
    table = f"| name | what it is |\n|---|---|\n{rows}" if rows else "None yet.\n"
    return f"\n## {kind.capitalize()}\n\n{ABOUT[kind]}\n\n{table}"


def benchmarks_page(every: Mapping[str, Mapping[str, Any]]) -> str:
    """One section per benchmark as Markdown.

    Args:
        every: Name → what `vlmtools bench show` prints.
    """
    return LIST_HEAD + "".join(_benchmark(every[name]) for name in sorted(every))


def _benchmark(told: Mapping[str, Any]) -> str:
    rows = {
        "Reference": told["reference"] or "ours",
        "Shows": ", ".join(told["modality"]) or "nothing",
        "Protocols": "; ".join(f"`{name}`: {about}" for name, about in told["protocols"].items()),
        "Metrics": ", ".join(f"`{name}` ({about})" for name, about in told["metrics"].items()),
        "Data": told["data"],
        "Licence": told["licence"],
        "Judge": told["judge"] or "none",
        "Checked": told["checked"],
    }
    facts = "".join(f"* **{title}**: {text}\n" for title, text in rows.items())
    notes = "".join(f"* {note}\n" for note in told["notes"])
    return f"\n## {told['name']}\n\n{told['summary']}\n\n{facts}" + (f"\nNotes:\n\n{notes}" if notes else "")


def pages() -> dict[str, str]:
    """File name → content of every page that is written."""
    content = catalogue()
    every = {name: facts(load_benchmark(name)) for name in content["benchmarks"]}
    return {
        "catalogue.md": page(content),
        "benchmarks-list.md": benchmarks_page(every),
        "backbones.md": backbones_page.page(rows(), content["backbones"]),
    }


def main() -> int:
    """Write the pages, or compare them with those on disk."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a page is out of date")
    check = parser.parse_args().check
    old = [name for name, text in pages().items() if not _settle(DOCS / name, text, check)]
    if old:
        print(f"docs/{', docs/'.join(old)} out of date. Run: make docs", file=sys.stderr)
    return int(bool(old))


def _settle(path: Path, wanted: str, check: bool) -> bool:
    """Whether the page is as it should be; without `check` it is written and then is."""
    if not check:
        path.parent.mkdir(exist_ok=True)
        path.write_text(wanted, encoding="utf-8", newline="\n")
        return True
    return path.is_file() and path.read_text(encoding="utf-8") == wanted


if __name__ == "__main__":
    sys.exit(main())
