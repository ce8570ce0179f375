"""The latent-truth estimator."""

import numpy as np
import pytest

from vlmtools.crosscheck.latent import bootstrap_rates, fit
from vlmtools.crosscheck.table import ClaimTable
from vlmtools.errors import BadInput


def simulated(
    sees: list[float], invents: list[float], n_items: int = 300, n_kinds: int = 6, seed: int = 0
) -> tuple[ClaimTable, np.ndarray]:
    """Items with `n_kinds` candidates each, half of them there; returns the table and each model's true rate."""
    rng = np.random.default_rng(seed)
    there = rng.random((n_items, n_kinds)) < 0.5
    chance = np.where(there[:, :, None], sees, invents)
    makes = rng.random(chance.shape) < chance
    item, kind = np.nonzero(makes.any(axis=2))
    mentions = makes[item, kind].astype(float)
    false = ~there[item, kind]
    table = ClaimTable(
        models=tuple(f"m{index}" for index in range(len(sees))),
        n_items=n_items,
        item=item,
        kind=kind,
        kinds=tuple(f"k{index}" for index in range(n_kinds)),
        mentions=mentions,
        support=mentions.copy(),
    )
    return table, (false @ mentions) / mentions.sum(axis=0)


def test_the_true_rates_are_recovered_when_models_err_independently() -> None:
    table, true = simulated([0.9, 0.8, 0.7, 0.5, 0.6], [0.3, 0.1, 0.05, 0.02, 0.2], n_items=1500)
    assert fit(table, spread=0.0).rate == pytest.approx(true, abs=0.02)


def test_the_same_claims_give_the_same_numbers() -> None:
    table, _ = simulated([0.9, 0.6, 0.5], [0.3, 0.1, 0.05])
    first, second = fit(table), fit(table)
    assert np.array_equal(first.rate, second.rate)
    assert np.array_equal(first.p_true, second.p_true)


def test_a_setting_outside_its_range_is_refused() -> None:
    table, _ = simulated([0.9, 0.6, 0.5], [0.3, 0.1, 0.05], n_items=5)
    with pytest.raises(BadInput, match="present=1"):
        fit(table, present=1.0)


def test_resamples_of_all_items_once_repeat_the_estimate() -> None:
    table, _ = simulated([0.9, 0.6, 0.5], [0.3, 0.1, 0.05])
    result = fit(table)
    again = bootstrap_rates(table, result, np.ones((2, table.n_items), dtype=int))
    assert again == pytest.approx(np.stack([result.rate, result.rate]), abs=1e-4)
