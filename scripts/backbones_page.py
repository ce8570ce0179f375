"""The page `docs/backbones.md`, which `scripts/write_docs.py` writes from the counted table."""

from collections.abc import Mapping
from typing import Any

from vlmtools.backbones._table import CHECKED, HEADINGS, cells

HEAD = """# Vision backbones

Written by `scripts/write_docs.py`; do not edit. `vlmtools list backbones` prints the same tables.

```python
from vlmtools import backbones

model = backbones.create("smt_t", num_classes=10)  # random weights
model = backbones.create("smt_t", pretrained=True, checkpoint="smt_tiny.pth")  # the authors' file
pyramid = backbones.create("smt_t", features_only=True, out_indices=(1, 3))  # maps for a dense head
```

No weights are bundled or fetched. Files of the authors are read under the authors' names of weights; what does not fit
is listed by name. `scripts/build_vlm.py` puts any of them in front of a language model; `scripts/backbones_learn.py`
trains small ones for a few minutes to show that they learn; `benchmarks/speed/backbones.py` times them.

Parameters and FLOPs are counted without computing anything (`scripts/count_backbones.py`): FLOPs of one image at the
variant's size, a multiplication and an addition counted as two, matrix products, convolutions and attention only; a
dash where the operators cannot be counted that way. Many papers count a multiplication and an addition as one: halve
the numbers to compare. Top-1 is ImageNet-1k accuracy in percent as the authors state it; nobody trained these here.
"""
TIMM = """
## Models of timm

`pip install 'vlmtools[backbones]'` brings timm for the rows marked "timm". timm imports torchvision, and a torchvision
wheel beside a CPU build of torch fails at import ("operator torchvision::nms does not exist") because its compiled part
does not load. Install the two of one release together (torch 2.13 and torchvision 0.28). In an environment that must
keep the CPU build, declare the two operators before the first import (with a working torchvision this is an error):

```python
import torch

library = torch.library.Library("torchvision", "FRAGMENT")
for name in ("nms", "qnms"):
    library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
import timm
```

## Pruning the weights of Swin

`vlmtools.layers.dimap.prune(model, 0.5)` zeroes the least important weights of a Swin-like model without data (DIMAP,
arXiv:2404.13648): one share in each kind of module, ranked over all depths. The authors gave out no program; importance
and masks equal reference values computed from the paper's formula.
"""
MISSING = {
    "DependencyViT and -Lite (arXiv:2304.03282)": "The authors' repository holds a licence only. Reversed attention is "
    "a layer here (`vlmtools.layers.reversed_attention`); widths, and where and at which threshold -Lite drops tokens, "
    "were not established.",
    "S2AFormer (arXiv:2505.22195)": "No program was found. Strip attention is a layer here "
    "(`vlmtools.layers.strip_attention`); widths, depths, reductions and channels per head of its sizes were not "
    "established.",
    "LookupViT (arXiv:2407.12753)": "No program of the authors was found. Its block is a layer here "
    "(`vlmtools.layers.lookup`); how compressed tokens start was not established, nor whether the attention of the way "
    "back is normalised anew.",
    "PATNet, partial attention (arXiv:2503.03148)": "No program was found for this paper. The share of channels per "
    "stage and the form of its Gaussian channel attention were not established. Two other papers of that name are here "
    "as layers.",
    "TiC (arXiv:2310.04134)": "Its convolution is a layer here (`vlmtools.layers.msa_conv`); widths and depths of the "
    "networks around it were not established.",
    "FIT": "Several models have this name. If the far-reaching interleaved transformer is meant (arXiv:2305.12689): "
    "the sizes of its image encoder were not established.",
    "ConvShareViT (arXiv:2504.11517)": "No program was found. Its shared convolution is a layer here "
    "(`vlmtools.layers.shared_conv`); which of its experiments is the model of the title, and its kernel sizes, were "
    "not established.",
    "N-D Hyena (arXiv:2309.13600)": "The code is in a supplement that was not found. The operator is a layer here for "
    "two dimensions (`vlmtools.layers.hyena_nd`); the sizes of its vision transformers were not established.",
}
"""Paper → what stands in the way of a whole network whose numbers can be compared."""


def page(rows: Mapping[str, Mapping[str, Any]], summaries: Mapping[str, str]) -> str:
    """The whole page as Markdown.

    Args:
        rows: Variant → what is known of it.
        summaries: Architecture → its first line.
    """
    legend = "".join(f"* {word}: {meaning}.\n" for word, meaning in CHECKED.items())
    tables = "".join(_table(name, rows, about) for name, about in sorted(summaries.items()))
    return f'{HEAD}\nThe column "checked":\n\n{legend}{tables}{TIMM}{_missing()}'


def _missing() -> str:
    lines = "".join(f"| {paper} | {what} |\n" for paper, what in MISSING.items())
    return f"\n## Not here as a whole network\n\n| paper | why |\n|---|---|\n{lines}"


def _table(architecture: str, rows: Mapping[str, Mapping[str, Any]], about: str) -> str:
    mine = {name: row for name, row in rows.items() if row["architecture"] == architecture}
    if not mine:
        return f"\n## {architecture}\n\n{about}\n\nNo published sizes.\n"
    lines = [HEADINGS, ("---",) * len(HEADINGS), *(cells(name, row) for name, row in mine.items())]
    first = next(iter(mine.values()))
    notes = sorted({f"* `{name}`: {row['note']}\n" for name, row in mine.items() if row["note"]})
    table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    source = f"Authors: {first['source']}, {first['licence']}.\n"
    return f"\n## {architecture}\n\n{about}\n\n{source}\n{table}" + ("\n" + "".join(notes) if notes else "")
