"""HiCMAE's two towers."""

from pathlib import Path

import pytest
import torch
from golden_tensors import known, read, same_value
from places import cases, golden_roots

from vlmtools.adapters._official_names import translated
from vlmtools.layers.audio_video_autoencoder import (
    OFFICIAL_NAMES,
    AudioVideoAutoencoder,
    TowerShape,
    hierarchical_contrast,
)


@pytest.mark.golden
@pytest.mark.parametrize("path", cases(golden_roots(), "adapters/hicmae/*.json"))
def test_the_autoencoder_gives_the_authors_numbers(path: Path) -> None:
    case = read(path)
    c = case.config
    known(
        c,
        "audio dec_depth dec_dim enc_depth enc_dim frames fusion_depth heads img_size intermediate mlp_ratio patch "
        "temperature tubelet",
    )
    shared = {
        "dim": c["enc_dim"], "depth": c["enc_depth"], "n_heads": c["heads"], "dec_dim": c["dec_dim"],
        "dec_depth": c["dec_depth"], "dec_heads": c["heads"], "fusion_depth": c["fusion_depth"],
        "levels": tuple(c["intermediate"]), "mlp_ratio": c["mlp_ratio"],
    }  # fmt: skip
    patch, side = c["patch"], c["img_size"] // c["patch"]
    frames = c["frames"] // c["tubelet"]
    video = TowerShape(3, (c["tubelet"], patch, patch), (frames, side, side), **shared)
    audio = TowerShape(1, (patch, patch), tuple(n // patch for n in c["audio"]), **shared)
    module = AudioVideoAutoencoder(video, audio, c["temperature"]).eval()
    module.load_state_dict(translated(case.state, OFFICIAL_NAMES))
    found = module(case["video"], case["video_mask"].bool(), case["audio"], case["audio_mask"].bool())
    same_value(found.video, case["pred_video"])
    same_value(found.audio, case["pred_audio"])
    for level, logits in enumerate(found.levels):
        same_value(logits, case[f"logits_v{level}"])
        same_value(logits.T, case[f"logits_a{level}"])
    same_value(hierarchical_contrast(found.levels), case["hcmcl_loss"])


def test_matching_pairs_cost_less_than_swapped_ones() -> None:
    right = torch.tensor([[5.0, 0.0], [0.0, 5.0]])
    assert hierarchical_contrast([right]) < hierarchical_contrast([right.flip(0)])
