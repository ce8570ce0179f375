"""Count parameters and FLOPs of every variant of every backbone into `vlmtools/backbones/_table.json`.

python scripts/count_backbones.py            # counts what is not in the table yet; may be stopped at any time
python scripts/count_backbones.py --again    # counts everything anew

Models are made and run on torch's meta device: nothing is computed. FLOPs are those of one image at the variant's size,
a multiplication and an addition counted as two, as torch.utils.flop_counter counts them: matrix products, convolutions
and attention. Rows that need timm are skipped where timm is not installed, and keep what the table says.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from vlmtools import registry
from vlmtools.backbones.base import Backbone, Variant

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "vlmtools" / "backbones" / "_table.json"
TESTS = ROOT / "tests" / "backbones"
PACKAGE = "vlmtools.backbones"


def facts(architecture: str, cls: type[Backbone], name: str, variant: Variant) -> dict[str, Any]:
    """What the classes and the tests say about a variant, without making it.

    Args:
        architecture: File name of the backbone.
        cls: Its class.
        name: Of the variant.
        variant: One of its sizes.
    """
    return {
        "architecture": architecture,
        "paper": ", ".join(re.findall(r"arXiv:[\d.]+", cls.__doc__ or "")),
        "size": variant.size,
        "top1": variant.top1,
        "stated_gmac": cls.stated_gmac.get(name),
        "gmac_apart": cls.gmac_apart.get(name, ""),
        "stated_in": cls.stated_in if name in cls.stated_gmac or variant.top1 is not None else "",
        "checked": checked(architecture, cls),
        "needs": cls.needs,
        "licence": variant.licence,
        "source": variant.source,
        "note": variant.note,
    }


def checked(architecture: str, cls: type[Backbone]) -> str:
    """How far the implementation was compared with the authors': "outputs", "timm" or "equations".

    Args:
        architecture: File name of the backbone.
        cls: Its class.
    """
    if cls.needs == "timm":
        return "timm"
    test = TESTS / f"test_{architecture}.py"
    golden = test.is_file() and "@pytest.mark.golden" in test.read_text(encoding="utf-8")
    return "outputs" if golden else "equations"


def counted(cls: type[Backbone], variant: Variant) -> dict[str, Any]:
    """Parameters, and FLOPs of one image.

    Args:
        cls: A backbone.
        variant: One of its sizes.
    """
    with torch.device("meta"):
        # what was made on a stated device, tables of positions for example, has to go along
        model = cls(**variant.args).eval().to("meta")
        image = torch.empty(1, variant.args.get("in_chans", 3), variant.size, variant.size)
    params = sum(weight.numel() for weight in model.parameters())
    try:
        # tensors that a forward pass makes have to be on the same device
        with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
            model(image)
    except (
        RuntimeError,
        NotImplementedError,
        AssertionError,
    ) as problem:  # timm asserts the sizes it can take
        print(f"not counted: {(str(problem) or type(problem).__name__).splitlines()[0]}", file=sys.stderr)
        return {"params": params, "flops": None}
    return {"params": params, "flops": int(counter.get_total_flops())}


def table(again: bool = False) -> dict[str, dict[str, Any]]:
    """Variant → row, written to disk at once, and again after each one that had to be counted.

    Args:
        again: Count also what is in the table.
    """
    old: dict[str, dict[str, Any]] = json.loads(TABLE.read_text(encoding="utf-8")) if TABLE.is_file() else {}
    known = {one[2]: one for one in variants()}
    rows = {name: {**facts(*one), **_numbers(old.get(name), one[3])} for name, one in known.items()}
    write(rows)
    for name, (_, cls, _, variant) in known.items():
        if (again or rows[name]["flops"] is None) and _can_be_made(cls):
            rows[name] |= counted(cls, variant)
            print(name, rows[name]["params"], rows[name]["flops"], flush=True)
            write(rows)
    return rows


def variants() -> Iterator[tuple[str, type[Backbone], str, Variant]]:
    """Architecture, class, name and facts of every variant."""
    for architecture in registry.names(PACKAGE):
        cls = registry.load(PACKAGE, architecture, Backbone)  # type: ignore[type-abstract]
        yield from ((architecture, cls, name, variant) for name, variant in cls.variants.items())


def write(rows: dict[str, dict[str, Any]]) -> None:
    """Put the table on disk.

    Args:
        rows: Variant → row.
    """
    TABLE.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n")


def _can_be_made(cls: type[Backbone]) -> bool:
    from importlib.util import find_spec

    return not cls.needs or find_spec(cls.needs) is not None


def _numbers(row: dict[str, Any] | None, variant: Variant) -> dict[str, Any]:
    """What was counted before at the same size; the stated parameters otherwise."""
    if row is None or row["size"] != variant.size:
        return {"params": variant.params, "flops": None}
    return {key: row[key] for key in ("params", "flops")}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--again", action="store_true", help="count also what is in the table")
    write(table(parser.parse_args().again))
