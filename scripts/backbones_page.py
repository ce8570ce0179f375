"""The page `docs/backbones.md`, which `scripts/write_docs.py` writes from the counted table."""

from collections.abc import Mapping
from typing import Any

from backbones_results import sections

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
is listed by name. `scripts/build_vlm.py` puts any of them in front of a language model; `scripts/backbones_as_eyes.py`
teaches small ones to be the tower of a bundled model (its results are shown below where they were recorded);
`scripts/backbones_learn.py` trains small ones for a few minutes to show that they learn; `scripts/train_dual_stream.py`
is the Brain-Score recipe for CrossViT; `benchmarks/speed/backbones.py` times them.

Parameters and FLOPs are counted without computing anything (`scripts/count_backbones.py`): FLOPs of one image at the
variant's size, a multiplication and an addition counted as two, matrix products, convolutions and attention only.
"Stated" is what the authors publish, doubled, because they count a multiplication with its addition as one. The two
agree within 3 % and the rounding; where they do not, a note says why. Top-1 is ImageNet-1k accuracy in percent as the
authors state it; nobody trained these here. Above each table stands where both were read: a file and its commit, or a
paper and its table. Parameters stated there are the counted ones, rounded or cut to the digits given, except where that
line or a note says otherwise.
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

## Pruning the weights of Swin and other hierarchies

`vlmtools.layers.dimap.prune(model, 0.5)` zeroes the least important weights of a Swin-like model without data (DIMAP,
arXiv:2404.13648): one share in each kind of module, ranked over all depths. The authors gave out no program; importance
and masks equal reference values computed from the paper's formula. It knows the layers of transformers' and timm's Swin
and of the backbones here; for another model `kinds=` says which layer is ranked with which.

```python
from transformers import SwinConfig, SwinForImageClassification

from vlmtools import backbones
from vlmtools.layers.dimap import apply_masks, prune

swin = SwinForImageClassification(SwinConfig())
masks = prune(swin, 0.5)  # half of each kind of module is zero now
apply_masks(swin, masks)  # after every step of training: keep it so
masks = prune(backbones.create("dinat_mini"), 0.5)
```
"""
READ = {
    "dependencyvit (arXiv:2304.03282)": "The authors' repository holds a licence only. Widths, heads, temperature, the "
    "controller and where -Lite drops patches are those of descriptions and of an open, unfinished re-implementation; "
    "the weighted mean at the end is ours.",
    "lookupvit (arXiv:2407.12753)": "No program was found. How compressed tokens start, that the attention of the way "
    "back is not normalised anew, the width of the narrow feed-forward part and what is classified are our reading.",
    "s2aformer (arXiv:2505.22195)": "No program was found. The local interaction module is our reading; widths and "
    "depths are chosen to meet the published parameters and FLOPs, which a public list of results repeats.",
    "tic (arXiv:2310.04134)": "The convolution equals the authors'; the network around it, the cyclic shift and the "
    "pooling are our reading; all sizes are ours.",
    "convsharevit (arXiv:2504.11517)": "No program was found. How maps become the next image is our reading; all sizes "
    "are ours.",
    "hyena_vit (arXiv:2309.13600)": "The code is in a supplement that was not found. The sizes are those of the small "
    "vision transformer that data-efficient ones are compared with (arXiv:2112.13492).",
    "fit (arXiv:2305.12689)": "Several models have this name; this is the far-reaching interleaved transformer. The "
    "encoder follows the authors' program, which was read and not run; sizes and classifier are ours.",
    "patnet (arXiv:2503.03148, arXiv:2502.01303)": "Sizes and parameters are those of the authors' settings; the "
    "papers' tables were not at hand. Their dynamic convolution, off in every setting, is left out.",
    "duoformer (arXiv:2506.12982)": "Follows a public copy of the authors' pre-release; the paper's counts were not at "
    "hand. The copy's two-scale form needs one number mended to run.",
}
"""Network → what of it is not as published, or was not compared."""


NOT_HERE = {
    "FeatEnHancer (arXiv:2308.03594)": "Its program is under CC BY-NC-ND 4.0, which forbids derivatives; a module that "
    "loads its weights would be one in our reading, so there is none.",
    "DAF_stack (multi-scale self-guided attention, JBHI 2020), ParaTransCNN (WACV 2024)": "No licence. Position and "
    "channel attention, the semantic guide, the decoder's convolutions and squeeze-and-excite are layers "
    "(`vlmtools.layers.position_channel_attention`, `double_conv`, `squeeze_excite`); the whole nets are not here, so "
    "their published counts of parameters are not met.",
    "PEM (arXiv:2402.19422), PATNet for saliency": "No licence. Prototype attention, the pixel decoder and the shared "
    "cross attention are layers written from the papers and from published numbers "
    "(`vlmtools.layers.prototype_attention`, `modulated_pyramid`, `shared_cross_attention`); the nets are not here.",
}
"""Module → what of it is not here, and why."""


def page(rows: Mapping[str, Mapping[str, Any]], summaries: Mapping[str, str]) -> str:
    """The whole page as Markdown.

    Args:
        rows: Variant → what is known of it.
        summaries: Architecture → its first line.
    """
    legend = "".join(f"* {word}: {meaning}.\n" for word, meaning in CHECKED.items())
    tables = "".join(_table(name, rows, about) for name, about in sorted(summaries.items()))
    return f'{HEAD}\nThe column "checked":\n\n{legend}{tables}{sections()}{TIMM}{_read()}{_not_here()}'


def _not_here() -> str:
    lines = "".join(f"| {module} | {what} |\n" for module, what in NOT_HERE.items())
    return f"\n## Not here, or only in parts\n\n| module | what and why |\n|---|---|\n{lines}"


def _read() -> str:
    lines = "".join(f"| {network} | {what} |\n" for network, what in READ.items())
    return (
        "\n## Written without the paper's tables\n\n"
        "For these the text and tables of the paper could not be read in full. Published counts of parameters and "
        "FLOPs were not\ncompared with ours unless the table says so, and no published accuracy is repeated.\n\n"
        f"| network | what is ours, or was not compared |\n|---|---|\n{lines}"
    )


def _notes(row: Mapping[str, Any]) -> list[str]:
    apart = row["gmac_apart"]
    return [note for note in (row["note"], apart and f"FLOPs {apart}") if note]


def _table(architecture: str, rows: Mapping[str, Mapping[str, Any]], about: str) -> str:
    mine = {name: row for name, row in rows.items() if row["architecture"] == architecture}
    if not mine:
        return f"\n## {architecture}\n\n{about}\n\nNo published sizes.\n"
    lines = [HEADINGS, ("---",) * len(HEADINGS), *(cells(name, row) for name, row in mine.items())]
    first = next(iter(mine.values()))
    notes = sorted({f"* `{name}`: {note}\n" for name, row in mine.items() for note in _notes(row)})
    table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    where = next((row["stated_in"] for row in mine.values() if row["stated_in"]), "")
    read = f" Stated FLOPs and top-1: {where}." if where else ""
    source = f"Authors: {first['source']}, {first['licence']}.{read}\n"
    return f"\n## {architecture}\n\n{about}\n\n{source}\n{table}" + ("\n" + "".join(notes) if notes else "")
