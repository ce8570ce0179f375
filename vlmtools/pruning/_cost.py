"""What pruning saves in theory: operations of the language model's prefill, and bytes of its cache.

Both are counted from the configuration; what a machine really gains is a matter of measuring (benchmarks/speed).
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Shape:
    """A language model as far as its cost goes.

    Args:
        n_layers: Decoder layers.
        width: Of the hidden states.
        n_heads: Query heads.
        n_kv_heads: Key/value heads.
        head_dim: Width of a head.
        inner: Width inside the feed-forward part.
        n_matrices: Matrices of the feed-forward part: 3 where it is gated, else 2.
    """

    n_layers: int
    width: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    inner: int
    n_matrices: int = 3

    @classmethod
    def of(cls, config: Any) -> "Shape":
        """Read a configuration of transformers.

        Args:
            config: Of a vision-language model, or of its language model.
        """
        text = config.get_text_config(decoder=True)
        heads = int(text.num_attention_heads)
        return cls(
            n_layers=int(text.num_hidden_layers),
            width=int(text.hidden_size),
            n_heads=heads,
            n_kv_heads=int(getattr(text, "num_key_value_heads", None) or heads),
            head_dim=int(getattr(text, "head_dim", None) or text.hidden_size // heads),
            inner=int(text.intermediate_size),
            n_matrices=2 if str(text.model_type) in UNGATED else 3,
        )


UNGATED = ("opt", "gpt2", "gpt_neox", "phi", "bloom", "starcoder2")
"""Language models whose feed-forward part has two matrices."""


def prefill_flops(shape: Shape, n_tokens: int) -> float:
    """Operations (two per multiplication with addition) of reading a prompt, without embedding and output head.

    Args:
        shape: Of the language model.
        n_tokens: Of the prompt.
    """
    queries, keys = shape.n_heads * shape.head_dim, shape.n_kv_heads * shape.head_dim
    weights = shape.width * (2 * queries + 2 * keys) + shape.n_matrices * shape.width * shape.inner
    scores = queries * n_tokens  # two products, and each query meets half of the keys on average
    return 2.0 * shape.n_layers * n_tokens * (weights + scores)


def cache_bytes(shape: Shape, n_tokens: int, bytes_per_number: int = 2) -> int:
    """Bytes that keys and values of a prompt fill.

    Args:
        shape: Of the language model.
        n_tokens: Of the prompt, and of what was written since.
        bytes_per_number: 2 for half precision, 4 for float32.
    """
    return 2 * shape.n_layers * shape.n_kv_heads * shape.head_dim * n_tokens * bytes_per_number


@dataclass(frozen=True, slots=True)
class Saving:
    """Before and after.

    Args:
        flops_ratio: Operations of the prefill before, divided by those after.
        cache_before: Bytes before.
        cache_after: Bytes after.
    """

    flops_ratio: float
    cache_before: int
    cache_after: int


def saving(config: Any, n_text: int, n_visual: int, n_kept: int, bytes_per_number: int = 2) -> Saving:
    """What keeping some visual tokens saves in the language model; the vision tower costs what it did.

    Args:
        config: Of the model.
        n_text: Text tokens of the prompt.
        n_visual: Visual tokens before.
        n_kept: Visual tokens after.
        bytes_per_number: Of the cache.
    """
    shape, before, after = Shape.of(config), n_text + n_visual, n_text + n_kept
    return Saving(
        prefill_flops(shape, before) / prefill_flops(shape, after),
        cache_bytes(shape, before, bytes_per_number),
        cache_bytes(shape, after, bytes_per_number),
    )
