"""Made-up systems with a known share of text from other clips: the ranking must follow that share."""

import importlib.util
import json
import random
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from places import ROOT, published

WORLD = [
    "dog", "cat", "horse", "bird", "boat", "train", "piano", "violin", "kitchen", "forest", "beach", "street", "office",
    "child", "woman", "man", "singer", "crowd", "rain", "engine", "bell", "river", "mountain", "bicycle", "guitar",
]  # fmt: skip


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("avhallubench", ROOT / "scripts" / "avhallubench.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def sentences(text: str) -> list[str]:
    return [f"{part.strip()}." for part in text.split(". ") if part.strip(" .")]


def system(texts: dict[str, str], wrong: float, seed: int, keep: float = 1.0) -> dict[str, str]:
    """The texts, truncated, with a share of the sentences taken from another clip."""
    rng, ids = random.Random(seed), list(texts)
    found = {}
    for id, text in texts.items():
        own = sentences(text)
        own = own[: max(1, round(keep * len(own)))]
        other = [rng.choice(sentences(texts[rng.choice([one for one in ids if one != id])])) for _ in own]
        found[id] = " ".join(b if rng.random() < wrong else a for a, b in zip(own, other, strict=True))
    return found


def write(
    path: Path, texts: dict[str, str], modality: str, samples: list[dict[str, str]] | None = None
) -> str:
    rows = [
        {"id": id, "text": text, "modality": modality}
        | ({"samples": [one[id] for one in samples]} if samples else {})
        for id, text in texts.items()
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


def data(folder: Path, n: int = 24) -> dict[str, str]:
    rng = random.Random(0)
    texts = {
        f"v{number}": " ".join(f"A {' and a '.join(rng.sample(WORLD, 3))} appear." for _ in range(5))
        for number in range(n)
    }
    rows = [
        {"video_id": id, "visual_description": text, "audio_description": text} for id, text in texts.items()
    ]
    (folder / "data.json").write_text(json.dumps(rows))
    return texts


def run(script: ModuleType, monkeypatch: pytest.MonkeyPatch, *words: Any) -> int:
    monkeypatch.setattr(sys, "argv", ["avhallubench.py", *map(str, words)])
    return int(script.main())


def order(printed: str) -> list[str]:
    return [line.split()[0] for line in printed.splitlines() if line[:5] in ("wrong", "other")]


RATES = (0, 30, 60, 90)


def test_systems_are_ranked_by_the_share_of_text_that_is_not_about_the_clip(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = data(tmp_path)
    files = []
    for rate in RATES:
        drawn = [system(texts, rate / 100, seed=100 * rate + draw) for draw in range(3)]
        files.append(
            write(tmp_path / f"wrong{rate:02}.jsonl", system(texts, rate / 100, rate), "video", drawn)
        )
    assert run(script, monkeypatch, *files, "--data", tmp_path) == 0
    printed = capsys.readouterr().out
    assert order(printed) == [f"wrong{rate:02}" for rate in RATES]
    assert "explicit with RefCheck, spearman: 100.0" in printed
    assert "self with RefCheck, spearman: 100.0" in printed


def test_systems_with_different_inputs_are_not_ranked_in_one_list(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = data(tmp_path, 16)
    files = [write(tmp_path / f"wrong{n:02}.jsonl", system(texts, n / 100, n), "video") for n in (0, 30, 80)]
    files += [
        write(tmp_path / f"other{n:02}.jsonl", system(texts, n / 100, n), "video+audio") for n in (5, 50)
    ]
    assert run(script, monkeypatch, *files, "--data", tmp_path) == 0
    printed = capsys.readouterr().out
    lists = printed.split("Input: ")[1:]
    assert [one.split(";")[0] for one in lists] == ["video", "video+audio"]
    assert [order(one) for one in lists] == [["wrong00", "wrong30", "wrong80"], ["other05", "other50"]]
    assert "self is left out" in printed
    assert "Two systems" not in lists[0] and "Two systems" in lists[1]


def test_a_system_with_two_kinds_of_input_is_refused(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data(tmp_path, 2)
    mixed = tmp_path / "mixed.jsonl"
    rows = [{"id": "v0", "text": "A.", "modality": "video"}, {"id": "v1", "text": "A.", "modality": "audio"}]
    mixed.write_text("\n".join(map(json.dumps, rows)))
    assert run(script, monkeypatch, mixed, "--data", tmp_path) == 1
    assert "one kind of input" in capsys.readouterr().err


@pytest.mark.golden
@pytest.mark.parametrize("task", ["visual", "audio"])
def test_made_up_systems_on_the_published_descriptions_are_ranked_by_their_rate(
    script: ModuleType,
    tmp_path: Path,
    task: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from vlmtools.benchmarks.base import load_benchmark

    place = published("avhallubench/annotations_dedup_clean_175.json.gz")
    samples = load_benchmark(f"avhallubench:task={task}").samples(place)
    texts = {one.id: str(one.reference) for one in samples}
    files = [
        write(tmp_path / f"wrong{n:02}.jsonl", system(texts, n / 100, n, keep=0.8), "video") for n in RATES
    ]
    assert run(script, monkeypatch, *files, "--data", place, "--task", task) == 0
    assert order(capsys.readouterr().out) == [f"wrong{n:02}" for n in RATES]
