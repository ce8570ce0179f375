"""Every benchmark says where it comes from and how far it was checked, and the page says the same."""

from pathlib import Path

import pytest

from vlmtools import registry
from vlmtools.benchmarks.base import load_benchmark
from vlmtools.cli.bench import facts

NAMES = [
    name
    for name in registry.names("vlmtools.benchmarks")
    if not registry.summary("vlmtools.benchmarks", name).startswith("from ")
]
PAGE = Path(__file__).parents[2] / "docs" / "benchmarks-list.md"


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_says_what_a_reader_must_know(name: str) -> None:
    told = facts(load_benchmark(name))
    assert told["reference"] or "own benchmark" in told["checked"].lower()
    assert all(told[key] for key in ("protocols", "licence", "data", "checked", "metrics"))
    assert told["licence"] != "unknown"


@pytest.mark.parametrize("name", NAMES)
def test_the_page_has_a_section_that_says_how_it_was_checked(name: str) -> None:
    section = PAGE.read_text(encoding="utf-8").partition(f"\n## {name}\n")[2].partition("\n## ")[0]
    told = facts(load_benchmark(name))
    assert told["checked"] in section and told["licence"] in section
    assert all(note in section for note in told["notes"])
