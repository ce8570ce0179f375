"""DivPrune, VisPruner and CDPruner against numbers that their released programs gave."""

from pathlib import Path
from typing import Any

import pytest
import torch
from golden_cases import each, tensors

from vlmtools.pruning.base import Seen, Tower
from vlmtools.pruning.cdpruner import conditional_kernel, most_likely, relevance
from vlmtools.pruning.divprune import DivPrune, farthest_first
from vlmtools.pruning.vispruner import VisPruner, attended_and_different


def of(method: str) -> list[Any]:
    return each("token-pruners/cases*.json", "inputs.safetensors", method=method)


pytestmark = pytest.mark.golden


@pytest.mark.parametrize(("case", "path"), of("cdpruner"))
def test_cdpruner_keeps_the_same_tokens(case: Any, path: Path) -> None:
    data, name = tensors(path), case["tensors"]
    weight = relevance(data[f"{name}.image_embeds"], data[f"{name}.text_embeds"])
    for image, kept in enumerate(case["kept"]):
        kernel = conditional_kernel(data[f"{name}.features"][image], weight[image])
        assert sorted(most_likely(kernel, case["keep"]).tolist()) == kept


@pytest.mark.parametrize(("case", "path"), of("vispruner"))
def test_vispruner_keeps_the_same_tokens(case: Any, path: Path) -> None:
    data, name = tensors(path), case["tensors"]
    attention = data[f"{name}.cls_attention"].mean(1)
    pruner = VisPruner(important=case["important_ratio"])
    assert pruner.needs(Tower("clip_vision_model", 4, 2, (0, 1, 2, 3), class_token=True)).patches
    for image, kept in enumerate(case["kept"]):
        features = data[f"{name}.features"][image]
        found = attended_and_different(features, attention[image], case["keep"], case["important_ratio"])
        assert sorted(torch.cat(found).tolist()) == kept
        seen = Seen(
            torch.zeros(len(features), 1),
            (1, len(features)),
            class_attention={2: attention[image]},
            patches=features,
        )
        assert pruner.select(seen, case["keep"]).kept.tolist() == kept


@pytest.mark.parametrize(("case", "path"), of("divprune"))
def test_divprune_chooses_the_same_tokens_in_the_same_order(case: Any, path: Path) -> None:
    features = tensors(path)[f"{case['tensors']}.features"]
    pruner = DivPrune(keep=case["ratio"])
    n_keep = pruner.budget(len(features))
    assert n_keep == len(case["order"])
    assert farthest_first(features, n_keep).tolist() == case["order"]
    assert pruner.select(Seen(features, (1, len(features))), n_keep).kept.tolist() == sorted(case["order"])
