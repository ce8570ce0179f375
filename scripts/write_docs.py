"""Write `docs/catalogue.md`: everything that can be named on the command line, from the plugins' own docstrings.

python scripts/write_docs.py             # writes the page
python scripts/write_docs.py --check     # exit code 1 when the page is out of date; `make check` runs this
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from vlmtools.registry import KINDS, names, summary

PAGE = Path(__file__).resolve().parent.parent / "docs" / "catalogue.md"
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


def main() -> int:
    """Write the page, or compare it with the one on disk."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--check", action="store_true", help="write nothing; fail when the page is out of date"
    )
    check, wanted = parser.parse_args().check, page(catalogue())
    if not check:
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(wanted, encoding="utf-8", newline="\n")
    elif not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != wanted:
        print("docs/catalogue.md is out of date. Run: make docs", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
