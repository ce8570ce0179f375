import json
import re
from importlib.util import find_spec

import pytest
import torch
from places import find_all, golden_roots

from vlmtools import registry
from vlmtools.backbones._table import rows
from vlmtools.backbones.base import Backbone

PACKAGE = "vlmtools.backbones"


def _variants():
    for architecture in registry.names(PACKAGE):
        cls = registry.load(PACKAGE, architecture, Backbone)
        yield from ((cls, name, variant) for name, variant in cls.variants.items())


VARIANTS = list(_variants())


def _counted(cls, args):
    with torch.device("meta"):
        return sum(weight.numel() for weight in cls(**args).parameters())


@pytest.mark.parametrize(
    ("cls", "variant"), [pytest.param(c, v, id=n) for c, n, v in VARIANTS if v.params is not None]
)
def test_a_variant_has_as_many_parameters_as_its_table_says(cls, variant):
    if cls.needs and find_spec(cls.needs) is None:
        pytest.skip(f"{cls.needs} is not installed")
    assert _counted(cls, variant.args) == variant.params


def _published():
    for path in find_all(golden_roots(), "backbones/params.json"):
        for table in json.loads(path.read_text()).values():
            for name, count in table.items():
                if isinstance(count, int):
                    yield name.lower().replace("-", "_"), count


@pytest.mark.golden
def test_the_tables_repeat_the_counts_of_the_authors_own_classes():
    ours = {name: variant.params for _, name, variant in VARIANTS}
    published = {name: count for name, count in _published() if name in ours}
    if not published:
        pytest.skip("no backbones/params.json in $VLMTOOLS_GOLDEN, ../shared or tests/golden")
    assert {name: ours[name] for name in published} == published


def test_the_table_that_the_command_line_shows_is_up_to_date():
    shown = {name: (row["params"], row["top1"], row["size"]) for name, row in rows().items()}
    said = {name: (one.params, one.top1, one.size) for _, name, one in VARIANTS}
    stale = {name for name in said if shown.get(name) != said[name] and said[name][0] is not None}
    assert not stale and not set(shown) - set(said), "run scripts/count_backbones.py, then make docs"


def _close(counted, stated):
    """Within 3 % of a number that was rounded to the last digit that is stated."""
    digit = 0.001 if stated < 1 else 0.1
    return abs(counted - stated) <= 0.03 * stated + digit / 2


def test_flops_are_the_stated_ones_or_the_difference_is_explained():
    stated = {name: row for name, row in rows().items() if row["stated_gmac"] is not None}
    apart = {name for name, row in stated.items() if not _close(row["flops"] / 2e9, row["stated_gmac"])}
    assert len(stated) > 60
    assert apart == {name for name, row in stated.items() if row["gmac_apart"]}


def test_whoever_repeats_a_number_says_where_it_was_read():
    repeated = {cls for cls, name, variant in VARIANTS if variant.top1 is not None or name in cls.stated_gmac}
    assert len(repeated) > 15
    assert not [cls.__name__ for cls in repeated if not re.search(r"\w+/\w+|arXiv:", cls.stated_in)]


def test_every_variant_has_its_flops_counted():
    assert not [name for name, row in rows().items() if not row["flops"]]


@pytest.mark.parametrize("name", ["smt_t", "shvit_s1", "crossformer_tiny"])
def test_the_flops_in_the_table_are_those_of_the_model(name):
    from torch.utils.flop_counter import FlopCounterMode

    (cls, variant) = next((cls, variant) for cls, known, variant in VARIANTS if known == name)
    with torch.device("meta"):
        model = cls(**variant.args).eval().to("meta")
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model(torch.empty(1, 3, variant.size, variant.size))
    assert counter.get_total_flops() == rows()[name]["flops"]
