"""The studies on the reference models: their arithmetic by hand, and each whole story on tiny untrained models."""

import json
import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import crosscheck_reference
import numpy as np
import pytest
import small_reference
import study_heads
import study_plots
import study_tower_attention as tower

import vlmtools as vt
from vlmtools.benchmarks.base import load_benchmark
from vlmtools.errors import BadInput
from vlmtools.reference.language import DETAIL
from vlmtools.reference.pictures import as_samples
from vlmtools.reference.truth import named
from vlmtools.reference.world import THINGS, World
from vlmtools.types import Reply, Request, Sample

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("models")
    return [small_reference.saved(folder / f"model-{seed}", seed) for seed in range(2)]


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pictures are drawn into a folder of the test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def marks(path: Path, name: str) -> list[Any]:
    return list(ElementTree.fromstring(path.read_text(encoding="utf-8")).iter(f"{SVG}{name}"))


# One scene of ten patches, two of which show a thing; a layer that looks nowhere in particular, and one that does.
SHOWN = np.array([[True, True, *[False] * 8]])
EVEN, THERE = [0.1] * 10, [0.4, 0.2, *[0.05] * 8]
WEIGHTS = np.array([[EVEN, THERE]])


def test_preference_is_the_share_on_things_over_their_share_of_the_picture() -> None:
    assert tower.preference(WEIGHTS, SHOWN) == pytest.approx(np.array([[1.0, 0.6 / 0.2]]))


def test_the_most_attended_tenth_is_counted_alone() -> None:
    first_elsewhere = np.array([[[0.1, 0.1, 0.2, *[0.6 / 7] * 7], THERE]])
    assert tower.best_on_things(first_elsewhere, SHOWN) == pytest.approx(np.array([[0.0, 1 / 0.2]]))


def test_evenness_is_one_for_even_and_zero_for_one_patch_alone() -> None:
    alone = np.eye(10)[None, :1]
    assert tower.evenness(np.concatenate([WEIGHTS[:, :1], alone], 1)) == pytest.approx(np.array([[1.0, 0.0]]))
    halves = np.array([[[0.5, 0.5, 0.0, 0.0]]])
    assert tower.evenness(halves)[0, 0] == pytest.approx(math.log(2) / math.log(4))


def test_equal_scenes_have_no_interval_and_others_do() -> None:
    assert tower.with_interval(np.full((5, 1), 2.0))[0] == pytest.approx((2.0, 2.0, 2.0))
    value, low, high = tower.with_interval(np.arange(6.0)[:, None])[0]
    assert low < value == 2.5 < high


def test_the_two_layers_are_those_the_pruner_takes() -> None:
    from vlmtools.pruning.hiprune import HiPrune

    assert tower.layers_of(6) == (2, 4) and tower.layers_of(24) == (8, 22)
    assert HiPrune().object_layer is None and HiPrune().deep_layer is None


def test_a_tower_is_looked_at_and_drawn(models: list[Path], tmp_path: Path) -> None:
    scenes = list(World(split="test").scenes(3))
    seen = tower.look(vt.load(models[0], dtype="float32", device_map=None), scenes, batch=2)
    assert seen.received.shape == seen.class_row.shape == (3, 3, 64) and seen.things.shape == (3, 64)
    assert seen.received.sum(-1) == pytest.approx(np.ones((3, 3)), abs=1e-5)
    found = tower.measures(seen)
    assert tower.table(found).count("\n") == 1 + 3
    assert "Layer 2 minus layer 2" in tower.verdict(seen)
    tower.plot(tmp_path / "plot.svg", found)
    tower.examples(tmp_path / "scenes.svg", scenes[:2], seen)
    assert len(marks(tmp_path / "plot.svg", "circle")) == 5 * 3 + 5
    assert len(marks(tmp_path / "scenes.svg", "image")) == 2 * (1 + 3)


def test_maps_agree_with_the_pruners_own_scores(models: list[Path]) -> None:
    """The study's column means are those HiPrune keeps tokens by, up to the class token's share."""
    from PIL import Image

    from vlmtools.pruning._scores import column_means
    from vlmtools.reference.render import picture

    scene = World(split="test").scene(0)
    vlm = vt.load(models[0], dtype="float32", device_map=None)
    seen = tower.look(vlm, [scene])
    shown: Image.Image = picture(scene)
    inputs = vlm.processor.image_processor([shown], return_tensors="pt")
    inner = vlm.model.model.vision_tower
    layer = getattr(inner, "vision_model", inner).encoder.layers[0]
    heard: dict[str, Any] = {}
    hooks = [
        module.register_forward_hook(lambda _m, _i, out, name=name: heard.update({name: out}))
        for name, module in (("q", layer.self_attn.q_proj), ("k", layer.self_attn.k_proj))
    ]
    inner(inputs["pixel_values"])
    for hook in hooks:
        hook.remove()
    query, key = (heard[name].detach().unflatten(-1, (4, 12)).transpose(1, 2) for name in "qk")
    wanted = column_means(query, key)[0, 1:].numpy()
    assert seen.received[0, 0] == pytest.approx(wanted / wanted.sum(), abs=1e-5)


def test_another_kind_of_tower_is_refused(tmp_path: Path) -> None:
    import tiny_models

    vlm = vt.load(tiny_models.idefics3(tmp_path), dtype="float32", device_map=None)
    with pytest.raises(BadInput, match="CLIP towers"):
        tower.look(vlm, [World().scene(0)])


VHD = np.array([[1.0, 2.0, 3.0, 4.0], [40.0, 30.0, 20.0, 10.0]])
HARM = np.array([[0.1, 0.2, 0.3, 0.4], [0.1, 0.2, 0.3, 0.4]])


def test_heads_are_compared_over_all_and_within_their_layer() -> None:
    study = study_heads.Study(VHD, {"fall in recall": HARM})
    row = study_heads.correlations(study)[2].split("|")
    assert row[1].strip() == "fall in recall"
    assert row[3].strip().startswith("+0.00")  # one layer agrees, the other is the wrong way round
    assert study_heads.within_layers(VHD).tolist() == [[1, 2, 3, 4], [4, 3, 2, 1]]
    halves = study_heads.chosen(study)[2]
    assert halves == "| fall in recall | +0.2500 | +0.2500 |"


def test_the_table_of_heads_begins_with_the_largest_vhd(tmp_path: Path) -> None:
    study = study_heads.Study(VHD, dict.fromkeys(study_heads.HARMS, HARM))
    assert study_heads.table(study)[2].startswith("| 2.1 | 40.000 | +0.100")
    study_heads.plot(tmp_path / "heads.svg", study)
    assert len(marks(tmp_path / "heads.svg", "circle")) == 3 * 8 + 2


def test_every_head_is_silenced_once_and_a_second_run_asks_nothing(
    models: list[Path], pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(load_benchmark("scenes")), "max_new_tokens", 4)
    asked = (str(models[0]), "scenes:n=1", pictures / "runs", (1, 2))
    found = study_heads.harm(*asked)
    assert {name: values.shape for name, values in found.items()} == dict.fromkeys(study_heads.HARMS, (1, 2))
    folders = sorted(path.parent.name for path in (pictures / "runs").glob("*/evaluation.json"))
    assert folders == ["whole", "without-0-0", "without-0-1"]
    monkeypatch.setattr(study_heads, "evaluate", None)
    again = study_heads.harm(*asked)
    assert all((again[name] == found[name]).all() for name in found)


def test_harm_is_positive_where_silencing_makes_things_worse(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = {"accuracy": 0.9, "Recall": 0.8, "CHAIRi": 0.1}
    without = {"accuracy": 0.7, "Recall": 0.9, "CHAIRi": 0.4}
    monkeypatch.setattr(study_heads, "metrics", lambda *given: without if len(given) > 3 else whole)
    found = study_heads.harm("any", "scenes", Path("nowhere"), (1, 1))
    expected = {"fall in accuracy": 0.2, "fall in recall": -0.1, "rise in CHAIR_i": 0.3}
    assert {name: values.item() for name, values in found.items()} == pytest.approx(expected)


def test_vhd_is_a_mean_over_prompts_of_any_batch_size(models: list[Path], pictures: Path) -> None:
    vlm = vt.load(models[0], dtype="float32", device_map=None)
    samples = study_heads.asked("scenes:n=2")
    assert [sample.extra["task"] for sample in samples] == ["caption", "question"] * 2
    one_by_one = study_heads.mean_vhd(vlm, samples, batch=1)
    assert study_heads.mean_vhd(vlm, samples, batch=3) == pytest.approx(one_by_one, abs=1e-4)


class Describer:
    """Names what is there and, in a share of the scenes, a thing that is not; as a judge it knows the truth."""

    def __init__(self, wrong: float, samples: list[Sample]) -> None:
        self.name, self.wrong, self.n_asked = f"wrong{round(100 * wrong)}", wrong, 0
        self._truth = {sample.image: list(sample.extra["objects"]) for sample in samples}

    def identity(self) -> dict[str, Any]:
        return {"kind": "made up", "wrong": self.wrong}

    def close(self) -> None:
        """Nothing to close."""

    def answer(self, requests: Sequence[Request]) -> Iterator[tuple[Request, Reply]]:
        for request in requests:
            self.n_asked += 1
            yield request, Reply(self._said(request), modality=("image",))

    def _said(self, request: Request) -> str:
        there = self._truth[request.sample.image]  # a judge's question has an id of its own
        if request.sample.prompt != DETAIL[0]:
            return "Yes." if set(named(request.sample.prompt)) <= set(there) else "No."
        draw = Random(f"{self.name} {request.sample.id} {request.draw}")
        others = [name for name in THINGS if name not in there]
        said = [draw.choice(others) if draw.random() < self.wrong else name for name in there]
        return " ".join(f"There is a {name} in the image." for name in said)


def test_made_up_models_are_ranked_by_their_share_of_inventions_in_all_four_ways(pictures: Path) -> None:
    samples = list(as_samples(World(split="test").scenes(16)))
    sources = [Describer(wrong, samples) for wrong in (0.0, 0.2, 0.4, 0.7)]
    found = crosscheck_reference.study(sources, samples, 2, pictures / "run")
    assert list(found.scores) == ["explicit/uniform", "explicit/em", "implicit/uniform", "implicit/em"]
    assert list(found.truth) == ["wrong0", "wrong20", "wrong40", "wrong70"]
    assert found.truth["wrong0"]["CHAIRi"] == 0 and found.truth["wrong0"]["Recall"] == 1
    assert [one.value for one in found.spearman().values()] == pytest.approx([1.0] * 4)
    assert crosscheck_reference.table(found).count("\n") == 2 + 4
    asked = [source.n_asked for source in sources]
    again = crosscheck_reference.study(sources, samples, 2, pictures / "run")
    assert again == found and [source.n_asked for source in sources] == asked, "all of it was kept"


def test_the_correlation_is_that_of_scores_and_truth() -> None:
    truth = {
        name: {"CHAIRi": rate, "Recall": 1.0} for name, rate in zip("abcd", (0.1, 0.2, 0.3, 0.4), strict=True)
    }
    right = dict(zip("abcd", (0.0, 0.1, 0.5, 0.6), strict=True))
    wrong = {name: -score for name, score in right.items()}
    ends = {name: dict.fromkeys(truth, (0.0, 1.0)) for name in ("x", "y")}
    found = crosscheck_reference.Study(truth, {"x": right, "y": wrong}, ends)
    assert [one.value for one in found.spearman().values()] == pytest.approx([1.0, -1.0])
    lines = crosscheck_reference.table(found).splitlines()
    assert lines[2].startswith("| a | 0.100 | 1.000 | 0.000 [0.000, 1.000]")
    assert "+1.00" in lines[-1] and "-1.00" in lines[-1]
    json.dumps({name: one.value for name, one in found.spearman().items()})


def test_a_plot_escapes_what_it_is_given_and_keeps_everything_inside(tmp_path: Path) -> None:
    dots = [study_plots.Dot(x, y, 0, "<b>") for x, y in ((0.0, -1.0), (5.0, 2.0))]
    box = study_plots.Box()
    path = tmp_path / "deep" / "plot.svg"
    study_plots.write(path, box.width, box.height, "a < b", study_plots.scatter(box, "t", "x", "y", dots))
    for circle in marks(path, "circle"):
        assert 0 < float(circle.attrib["cx"]) < box.width and 0 < float(circle.attrib["cy"]) < box.height
    assert "<b>" not in path.read_text(encoding="utf-8")
