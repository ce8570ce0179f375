import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import tiny_data
from places import data_roots

from vlmtools.benchmarks._answers_file import read_answers
from vlmtools.benchmarks.base import Said, load_benchmark, score_answers
from vlmtools.benchmarks.videohallucer import VideoHallucer
from vlmtools.errors import BadInput
from vlmtools.evaluate.scoring import Scoring, items, score_file
from vlmtools.scoring import videohallucer as rules


def folders() -> list[Any]:
    found = sorted({path.parent for root in data_roots() for path in root.glob("**/obj_rel_*.json*")})
    return found or [pytest.param(None, marks=pytest.mark.skip(reason="no obj_rel_*.json* in the data"))]


def pair(part: str = "subject", said: tuple[str, str] = ("yes", "no"), number: int = 0) -> dict[str, Any]:
    halves = {"basic": ("yes", said[0]), "hallucination": ("no", said[1])}
    return {
        half: {"video": f"{number}.mp4", "question": f"{half} {number}?", "answer": gold, "predict": text}
        for half, (gold, text) in halves.items()
    } | {"type": part}


@pytest.mark.golden
@pytest.mark.parametrize("folder", folders())
def test_every_folder_of_answers_scores_as_the_pure_functions_do(folder: Path) -> None:
    bench = load_benchmark("videohallucer")
    samples = items(bench, folder)
    said: dict[str, Said] = {}
    parts: dict[str, list[rules.Pair]] = {}
    for path in sorted(folder.glob("*.json.gz")):
        for entry in json.loads(gzip.decompress(path.read_bytes())):
            unpacked = bench.unpack(entry)
            assert unpacked is not None
            said |= {id: Said(text or "") for id, text, _ in unpacked}
            both = (entry["basic"]["predict"], entry["hallucination"]["predict"])
            parts.setdefault(unpacked[0][0].partition("/")[0], []).append(rules.Pair(*both))
    assert set(said) == set(samples)
    found = bench.values(score_answers(bench, samples, said))
    expected = rules.score(parts)
    assert expected.bias is not None and expected.own_bias is not None
    assert found["both"] == pytest.approx(expected.macro.both, abs=1e-12)
    assert found["basic"] == pytest.approx(expected.macro.basic, abs=1e-12)
    assert found["hallucination"] == pytest.approx(expected.macro.hallucination, abs=1e-12)
    for name in ("yes_difference", "no_difference", "false_positive_ratio"):
        assert found[name] == pytest.approx(getattr(expected.bias, name), abs=1e-12)
        assert found[f"own_{name}"] == pytest.approx(getattr(expected.own_bias, name), abs=1e-12)
    assert found["hallucination_score"] == pytest.approx(expected.bias.hallucination_score, abs=1e-12)


def test_the_five_parts_are_told_apart_by_their_types_and_both_questions_get_the_ending(
    tmp_path: Path,
) -> None:
    types = {"obj_rel": "relation", "temporal": "length_relative", "semantic": "semantic_detail",
             "fact": "external_factual_course", "nonfact": "external_nonfactual_instruct"}  # fmt: skip
    for part, kind in types.items():
        (tmp_path / f"{part}_model.json").write_text(json.dumps([pair(kind)]))
    samples = items(load_benchmark("videohallucer"), tmp_path)
    assert [id.partition("/")[0] for id in samples] == [part for part in types for _ in range(2)]
    first = next(iter(samples.values()))
    assert first.prompt == "basic 0?\nAnswer the question using 'yes' or 'no'."
    assert first.video == "object_relation/videos/0.mp4"
    assert first.reference == "yes"


def test_the_folders_of_the_authors_repository_are_found(tmp_path: Path) -> None:
    place = tmp_path / "temporal"
    place.mkdir()
    (place / "temporal.json").write_text(json.dumps([pair("temporal_absolute")]))
    bench = load_benchmark("videohallucer")
    samples = items(bench, tmp_path)
    assert len(samples) == 2
    rows = score_answers(bench, samples, {id: Said("no") for id in samples})
    assert "No data for obj_rel, semantic, fact, nonfact" in bench.warnings(rows)[-1]


def test_a_file_of_one_part_is_read_in_the_official_layout(tmp_path: Path) -> None:
    path = tmp_path / "obj_rel_model.json"
    path.write_text(json.dumps([pair(said=("yes no", "Yes and no"), number=n) for n in range(3)]))
    bench = load_benchmark("videohallucer:part=obj_rel")
    samples = items(bench, path)
    rows = score_answers(bench, samples, read_answers(path, bench, samples).said)
    assert bench.values(rows)["both"] == 1
    strict = load_benchmark("videohallucer:part=obj_rel", protocol="strict")
    assert (
        strict.values(score_answers(strict, samples, read_answers(path, strict, samples).said))["both"] == 0
    )


def test_the_official_programs_folder_is_scored_as_a_whole(tmp_path: Path) -> None:
    made = tiny_data.tiny("videohallucer", tmp_path / "data")
    other = [{**pair, "type": "semantic"} for pair in made.answers]
    place = tmp_path / "data" / "semantic_detail"
    place.mkdir()
    (place / "semantic_detail.json").write_text(json.dumps(other))
    (tmp_path / "out").mkdir()
    wrong = [{**pair, "hallucination": {**pair["hallucination"], "predict": "Yes"}} for pair in other]
    (tmp_path / "out" / "obj_rel_mine.json").write_text(json.dumps(made.answers))
    (tmp_path / "out" / "semantic_mine.json").write_text(json.dumps(wrong))
    found = score_file(tmp_path / "out", VideoHallucer(), tmp_path / "data", setting=Scoring(n_boot=2))
    assert found.n == 16
    assert (found.metrics["both/obj_rel"].value, found.metrics["both/semantic"].value) == (1, 0)
    assert found.metrics["both"].value == 0.5


def test_a_folder_of_two_models_is_refused_and_a_broken_file_named(tmp_path: Path) -> None:
    made = tiny_data.tiny("videohallucer", tmp_path / "data")
    (tmp_path / "out").mkdir()
    for name in ("a", "b"):
        (tmp_path / "out" / f"obj_rel_{name}.json").write_text('[{"basic": {}}]')
    with pytest.raises(BadInput, match="one model's files"):
        score_file(tmp_path / "out", VideoHallucer(), made.data)
    (tmp_path / "out" / "obj_rel_b.json").unlink()
    with pytest.raises(BadInput, match=r"obj_rel_a\.json', row 1"):
        score_file(tmp_path / "out", VideoHallucer(), made.data)
