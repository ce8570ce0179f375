import json
import re
from dataclasses import fields
from pathlib import Path

import pytest
from places import ROOT

from vlmtools import lines
from vlmtools.crosscheck.ranking import Evidence, Pair, Ranking, Row, WorstClaim
from vlmtools.responders.recorded import read_items, read_sources

PAGE = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("kind", [Row, Pair, WorstClaim, Evidence])
def test_every_field_of_a_ranking_is_documented(kind: type) -> None:
    assert [field.name for field in fields(kind) if f"`{field.name}`" not in PAGE] == []


def test_every_part_of_the_json_is_documented() -> None:
    empty = Ranking((), {}, (), (), {}, (), {})
    assert [name for name in empty.to_json(full=True) if f"| `{name}` |" not in PAGE] == []


def test_the_examples_on_the_page_are_read_as_they_say(tmp_path: Path) -> None:
    answers, items, records = EXAMPLES
    (tmp_path / "answers.jsonl").write_text(answers, encoding="utf-8")
    (tmp_path / "items.jsonl").write_text(items, encoding="utf-8")
    (source,) = read_sources(tmp_path / "answers.jsonl")
    assert list(source.answers) == ["40468", "40469"]
    assert [item.id for item in read_items(tmp_path / "items.jsonl")] == ["1", "dog"]
    for line in records.encode().splitlines():
        assert lines.decode(line) == {
            name: value for name, value in json.loads(line).items() if name != "crc"
        }
