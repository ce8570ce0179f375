"""Heavy hitters: keep the keys that got most attention, and the newest ones; forget the others.

Reference: H2O, arXiv:2306.14048; FMInference/H2O.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers.cache_utils import Cache, DynamicLayer


def heavy_mask(
    scores: Float[Tensor, "batch head query key"], budget: int
) -> Bool[Tensor, "batch head query key"]:
    """Who is seen when every query may keep `budget` keys; a key once dropped never comes back.

    The first `budget` queries are open on the first `budget` keys: join the result with the causal mask.

    Args:
        scores: Causally masked attention scores before the softmax.
        budget: Keys a query sees, its own included, at least 1.

    Reference: arXiv:2306.14048, algorithm 1, in the form that the authors evaluate with.
    """
    n_seq = scores.shape[-1]
    weights = scores.float().softmax(dim=-1)
    mask = torch.zeros_like(scores, dtype=torch.bool)
    mask[:, :, :budget, :budget] = True
    received = weights[:, :, :budget].sum(dim=2)
    received[..., budget:] = 0
    for row in range(budget, n_seq):
        now = scores[:, :, row].float().softmax(dim=-1)
        kept = received[..., :row].topk(budget - 1, dim=-1).indices
        mask[:, :, row].scatter_(-1, kept, True)
        mask[:, :, row, row] = True
        received = (received + now) * mask[:, :, row]
    return mask


def received_attention(weights: Float[Tensor, "batch head query key"]) -> Float[Tensor, "batch head key"]:
    """Attention each key got from all queries of a step."""
    return weights.sum(dim=2)


def kept_keys(
    score: Float[Tensor, "batch head key"], heavy: int, recent: int
) -> Int[Tensor, "batch head kept"]:
    """Positions that stay, in their order: the `heavy` best of the older keys and the last `recent`.

    Args:
        score: Attention each cached key got so far.
        heavy: Older keys kept, 0 or more.
        recent: Newest keys kept, at least 1.
    """
    n_keys = score.shape[-1]
    newest = torch.arange(n_keys - recent, n_keys, device=score.device).expand(*score.shape[:2], -1)
    older = score[..., : n_keys - recent].topk(heavy, dim=-1).indices.sort(dim=-1).values
    return torch.cat([older, newest], dim=-1)


class _HeavyLayer(DynamicLayer):
    """Keys and values of one layer, and the attention they got."""

    def __init__(self, heavy: int, recent: int) -> None:
        super().__init__()
        self.heavy, self.recent, self.n_seen = heavy, recent, 0
        self.keys: Tensor
        self.values: Tensor
        self.score: Tensor | None = None

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        keys, values = super().update(key_states, value_states, *args, **kwargs)
        self.n_seen += key_states.shape[-2]
        return keys, values

    def observe(self, weights: Tensor) -> None:
        """Count the attention of this step and drop what is over the budget."""
        got = received_attention(weights.detach())
        n_batch, _, n_keys = got.shape
        # query heads that share a key head count together
        got = got.reshape(n_batch, self.keys.shape[1], -1, n_keys).sum(dim=2)
        if self.score is not None:
            got[..., : self.score.shape[-1]] += self.score
        self.score = got
        if got.shape[-1] > self.heavy + self.recent:
            kept = kept_keys(got, self.heavy, self.recent)
            self.score = got.gather(-1, kept)
            index = kept[..., None].expand(*kept.shape, self.keys.shape[-1])
            self.keys, self.values = self.keys.gather(2, index), self.values.gather(2, index)

    def get_seq_length(self) -> int:
        """Tokens seen, also those whose keys are gone: positions go on counting."""
        return self.n_seen

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Keys of the next step, and how far they are pushed back: every kept key stands in the past."""
        n_kept = self.keys.shape[-2] if self.is_initialized else 0
        return n_kept + query_length, self.n_seen - n_kept

    def reset(self) -> None:
        super().reset()
        self.n_seen, self.score = 0, None

    def crop(self, max_length: int) -> None:
        raise NotImplementedError(
            "Dropped keys cannot come back. Use a DynamicCache for assisted generation."
        )


class HeavyHitterCache(Cache):
    """A cache to call `generate` with that never holds more than `heavy` + `recent` keys after a step.

    The model must run with eager attention, and its attention weights must reach `observe`; `watch` sees to that.
    Positions keep counting from the beginning, so rotary positions stay right. Prompts must not be padded.

    Args:
        heavy: Older keys kept per head.
        recent: Newest keys kept per head, at least 1.
        n_layers: Decoder layers.
    """

    def __init__(self, heavy: int = 4, recent: int = 512, n_layers: int = 1) -> None:
        super().__init__(layers=[_HeavyLayer(heavy, recent) for _ in range(n_layers)])

    def observe(self, weights: Float[Tensor, "batch head query key"], layer: int) -> None:
        """Tell a layer how attention fell in this step; it drops what is over its budget.

        Args:
            weights: Attention probabilities over all keys the step saw.
            layer: Index of the layer.
        """
        self.layers[layer].observe(weights)

    def score(self, layer: int) -> Float[Tensor, "batch head key"]:
        """Attention each kept key of a layer got so far.

        Args:
            layer: Index of the layer.
        """
        found: Tensor = self.layers[layer].score
        return found


@contextmanager
def watch(cache: HeavyHitterCache, attention: Sequence[nn.Module]) -> Iterator[HeavyHitterCache]:
    """While it lasts, every attention module tells the cache how its attention fell.

    Args:
        cache: The cache that the model is called with.
        attention: The decoder's attention modules, in order; they must run eagerly, so that they give their weights.
    """
    with ExitStack() as stack:
        for layer, module in enumerate(attention):
            stack.callback(module.register_forward_hook(_teller(cache, layer)).remove)
        yield cache


def _teller(cache: HeavyHitterCache, layer: int) -> Any:
    def tell(_: nn.Module, __: Any, output: Any) -> None:
        if output[1] is None:
            raise ValueError(
                "The attention gives no weights. Call model.set_attn_implementation('eager') first."
            )
        cache.observe(output[1], layer)

    return tell
