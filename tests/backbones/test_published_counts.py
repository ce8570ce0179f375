"""Every number of parameters in every `backbones/params.json`, one test each; a name nobody here can build fails."""

import json
import re
from importlib.util import find_spec

import pytest
import torch
from places import find_all, golden_roots

from vlmtools import backbones
from vlmtools.backbones.channelvit import ChannelViT
from vlmtools.backbones.overlock import OverLoCK
from vlmtools.errors import UnknownName
from vlmtools.layers.catanet import CATANet
from vlmtools.layers.dlgsanet import DLGSANet
from vlmtools.layers.hat import HAT
from vlmtools.layers.topiq import QualityHead

RESNET_50 = 23_508_032
"""Parameters of ResNet-50 without its classifier, on which the quality heads stand."""
UNBUILT = {
    "DAF_stack": "no licence: its modules are layers here, the whole net and its ResNeXt-101 are not",
    "ParaTransCNN_default": "no licence: three of its parts are layers here, the whole net is not",
    "FeatEnHancer": "its licence (CC BY-NC-ND) forbids derivatives",
}
"""Published nets that are not here as a whole → why."""


def _published():
    for path in find_all(golden_roots(), "backbones/params.json"):
        for table, counts in json.loads(path.read_text()).items():
            for name, count in counts.items():
                if isinstance(count, int):
                    yield pytest.param(table, name, count, id=f"{table}/{name}")


def _dlgsa(dim, groups, blocks, scale):
    # the published name of the tiny net for x3 says 4 blocks, its published options and count say 3
    blocks = 3 if (dim, groups, blocks, scale) == (48, 3, 4, 3) else blocks
    return DLGSANet(
        dim=dim, groups=groups, blocks=blocks, buildblock_type="sparseedge", upscale=scale,
        upsampler="pixelshuffledirect",
    )  # fmt: skip


def _hat(kind, scale):
    width, n_groups, compress, squeeze = {
        "": (180, 6, 3, 30), "-S": (144, 6, 24, 24), "-L": (180, 12, 3, 30),
    }[kind]  # fmt: skip
    return HAT(
        window_size=16, embed_dim=width, depths=(6,) * n_groups, num_heads=(6,) * n_groups, mlp_ratio=2,
        upscale=scale, compress_ratio=compress, squeeze_factor=squeeze,
    )  # fmt: skip


def _quality(kind, n_scores):
    wide = {"inter_dim": 512} if kind == "iaa" else {}
    return QualityHead((64, 256, 512, 1024, 2048), use_ref=kind == "fr", num_class=int(n_scores or 1), **wide)


PATTERNS = {
    r"catanet_x(\d)": lambda scale: CATANet(upscale=int(scale)),
    r"\w+_(\d+)C(\d+)G(\d+)B_SRx(\d)": lambda *sizes: _dlgsa(*map(int, sizes)),
    r"HAT(-S|-L|)_SRx(\d)(?:_.*)?": lambda kind, scale: _hat(kind, int(scale)),
    r"cfanet_(nr|fr|iaa)_res50(?:_num(\d+))?": _quality,
    r"channelvit_(\w+)_in(\d+)": lambda size, n: ChannelViT(
        **{**ChannelViT.variants[f"channelvit_{size}_in3"].args, "in_chans": int(n)}
    ),
    r"overlock_(\w+)_noaux": lambda size: OverLoCK(
        **{**OverLoCK.variants[f"overlock_{size}"].args, "use_ds": False}
    ),
}
"""Names that are no variants → how their nets are made."""


def _built(name):
    for pattern, make in PATTERNS.items():
        if found := re.fullmatch(pattern, name):
            return make(*found.groups())
    cls, args = backbones.find(name.lower())
    if cls.needs and find_spec(cls.needs) is None:
        pytest.skip(f"{cls.needs} is not installed")
    return cls(**args)


@pytest.mark.golden
@pytest.mark.parametrize(
    ("table", "name", "count"),
    list(_published())
    or [
        pytest.param(
            "", "", 0, marks=pytest.mark.skip("no backbones/params.json where golden numbers are looked for")
        )
    ],
)
def test_a_net_is_as_large_as_published(table, name, count):
    if name in UNBUILT:
        pytest.skip(UNBUILT[name])
    try:
        with torch.device("meta"):
            net = _built(name)
    except UnknownName:
        pytest.fail(
            f"{table}/{name} is published with {count} parameters. Make it a variant, or say why it is not."
        )
    counted = sum(weight.numel() for weight in net.parameters())
    assert counted + (RESNET_50 if isinstance(net, QualityHead) else 0) == count


def test_a_wrapped_model_has_the_published_count_written_down():
    published = {
        name.lower(): count
        for path in find_all(golden_roots(), "backbones/params.json")
        for table, counts in json.loads(path.read_text()).items()
        if "timm" in table
        for name, count in counts.items()
        if isinstance(count, int)
    }
    if not published:
        pytest.skip("no backbones/params.json where golden numbers are looked for")
    known = {}
    for name in published:
        cls, _ = backbones.find(name)
        known[name] = cls.variants[name].params
    assert known == published


def test_a_name_that_nobody_can_build_is_not_passed_over():
    with pytest.raises(UnknownName):
        _built("no_such_net_tiny")
