"""Auxiliary losses of one forward pass: opened when the pass begins, closed when it ends.

Recomputation under gradient checkpointing runs inside the backward pass, after the list was closed, so that no loss is
counted twice; the next forward pass begins with an empty list.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from vlmtools.errors import BadInput

Over = Literal["sum", "mean"]
"""How the losses of several places become one."""


@dataclass(slots=True)
class Losses:
    """What the layers of one part reported during the latest forward pass.

    Args:
        values: Loss → place → what each call there reported.
        weights: Loss → its factor in the total.
        is_open: A forward pass is under way.
        graded: That pass began with gradients switched on.
    """

    values: dict[str, dict[str, list[Tensor]]] = field(default_factory=dict)
    weights: dict[str, float] = field(default_factory=dict)
    is_open: bool = False
    graded: bool = False

    def start(self) -> None:
        """A forward pass begins: forget the one before."""
        self.values.clear()
        self.is_open, self.graded = True, torch.is_grad_enabled()

    def stop(self) -> None:
        """The forward pass has ended: what is reported from now on is recomputation."""
        self.is_open = False

    def add(self, name: str, value: Tensor, weight: float, site: str, training: bool) -> None:
        """Report one loss; ignored outside a forward pass.

        Args:
            name: Of the loss.
            value: The loss without its factor.
            weight: Its factor in the total.
            site: Where it arose.
            training: Its gradient is needed.

        Raises:
            BadInput: The layer runs without gradients although the pass began with them.
        """
        if not self.is_open:
            return
        if training and self.graded and not torch.is_grad_enabled():
            raise BadInput(
                f"The loss {name!r} of {site or 'the connector'} is computed without gradients, as reentrant gradient "
                "checkpointing does, and would train nothing. Switch checkpointing on with use_reentrant=False, "
                "transformers' default."
            )
        self.weights[name] = weight
        self.values.setdefault(name, {}).setdefault(site, []).append(value)

    def each(self, over: Over) -> dict[str, Tensor]:
        """Loss → its value: mean over the calls at a place, then sum or mean over places.

        Args:
            over: How places are put together.
        """
        return {name: _together(places, over) for name, places in self.values.items()}

    def total(self, over: Over) -> Tensor:
        """The weighted sum of all losses; 0 when there is none.

        Args:
            over: How places are put together.
        """
        parts = [self.weights[name] * value for name, value in self.each(over).items()]
        return torch.stack(parts).sum() if parts else torch.zeros(())


def _together(places: Mapping[str, list[Tensor]], over: Over) -> Tensor:
    means = torch.stack([torch.stack(calls).float().mean() for calls in places.values()])
    return means.sum() if over == "sum" else means.mean()
