"""SinkLoRA: low-rank updates, trained with attention in shifted groups and global sinks; full attention afterwards.

The pattern is our reading of the paper, which has published no code for it; see `layers/shifted_sparse.py`. In
evaluation nothing but the low-rank updates is left.

Reference: arXiv:2406.05678.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from vlmtools.adapters.base import Adapter, Handle, Site, Sizes, attentions
from vlmtools.errors import BadInput, CannotAttach
from vlmtools.families._cache import given_cache
from vlmtools.layers.shifted_sparse import visible

PROJECTIONS = ("q_proj", "k_proj", "v_proj")
"""What is updated besides the output projection."""


class _LowRank(nn.Module):
    """The update of each projection of one attention module."""

    def __init__(self, widths: dict[str, list[int]], rank: int) -> None:
        super().__init__()
        self.down = nn.ModuleDict(
            {name: nn.Linear(d_in, rank, bias=False) for name, (d_in, _) in widths.items()}
        )
        self.up = nn.ModuleDict(
            {name: nn.Linear(rank, d_out, bias=False) for name, (_, d_out) in widths.items()}
        )
        for one in self.up.values():
            nn.init.zeros_(one.weight)  # type: ignore[arg-type]


@dataclass(eq=False, repr=False)
class SinkLora(Adapter):
    """Low-rank updates of queries, keys, values and output, and a sparse mask while training.

    Args:
        rank: Of the updates, from 1.
        alpha: The updates count alpha / rank; 0 switches them off.
        group: Tokens per group; 0 takes `ratio` of the length.
        ratio: Group size as a share of the length, in (0, 1]; 1 attends to all.
        shifted: Share of heads whose groups are shifted by half, 0 to 1.
        n_sinks: First tokens that everybody sees.
        sparse: When the mask acts: in training, or never.
        train_norms: The decoder's norms train too, as the paper has it.
    """

    starts_neutral = True

    rank: int = 8
    alpha: float = 16.0
    group: int = 0
    ratio: float = 0.25
    shifted: float = 0.25
    n_sinks: int = 4
    sparse: Literal["training", "never"] = "training"
    train_norms: bool = True

    def check(self) -> None:
        """Shares are shares."""
        if self.rank < 1 or self.group < 0 or not 0 < self.ratio <= 1 or not 0 <= self.shifted <= 1:
            raise BadInput(
                f"rank={self.rank} counts from 1, group={self.group} from 0; ratio={self.ratio} lies in (0, 1] and "
                f"shifted={self.shifted} in [0, 1]."
            )

    def find(self, host: nn.Module) -> Sequence[Site]:
        """The decoder's attention modules."""
        sites = []
        for one in attentions(host, "text"):
            parts = {name: getattr(one.module, name, None) for name in PROJECTIONS}
            if one.cross or None in parts.values():
                continue
            out = next(str(name) for name, part in one.module.named_children() if part is one.o_proj)
            every = {**parts, out: one.o_proj}
            widths = {name: [int(p.in_features), int(p.out_features)] for name, p in every.items()}  # type: ignore[arg-type, union-attr]
            sites.append(Site(one.name, one.module, {"widths": widths, "n_heads": one.n_heads}))
        if not sites:
            raise CannotAttach(
                f"The attention of {type(host).__name__} has no projections called {', '.join(PROJECTIONS)}. "
                "The adapter lora works on any projection."
            )
        return sites

    def layer(self, sizes: Sizes) -> nn.Module:
        """The updates."""
        return _LowRank(sizes["widths"], self.rank)

    def trained_in_host(self, host: nn.Module) -> Sequence[str]:
        """The decoder's norms."""
        if not self.train_norms:
            return ()
        prefix = self.find(host)[0].name.rpartition(".layers.")[0] + "."
        return [
            f"{path}.{name}"
            for path, module in host.named_modules()
            if path.startswith(prefix) and "Norm" in type(module).__name__
            for name, _ in module.named_parameters(recurse=False)
        ]

    def wire(self, host: nn.Module, site: Site, layer: _LowRank) -> Iterator[Handle]:
        """Add the updates; narrow the mask in training."""
        for name in layer.down:
            yield site.module.get_submodule(name).register_forward_hook(self._update(layer, name))
        n_heads = int(site.sizes["n_heads"])

        def narrow(module: nn.Module, args: Any, kwargs: Any) -> Any:
            past = given_cache(kwargs)
            later = past is not None and past.get_seq_length(getattr(module, "layer_idx", 0)) > 0
            if later or not (self.training and self.sparse == "training"):
                return None
            x = args[0] if args else kwargs["hidden_states"]
            kernel = str(getattr(getattr(module, "config", None), "_attn_implementation", ""))
            return args, {
                **kwargs,
                "attention_mask": self._mask(kwargs.get("attention_mask"), x, n_heads, kernel),
            }

        yield site.module.register_forward_pre_hook(narrow, with_kwargs=True)

    def _update(self, layer: _LowRank, name: str) -> Any:
        def add(_: nn.Module, args: Any, output: Tensor) -> Tensor:
            x = args[0].to(next(layer.parameters()).dtype)
            update: Tensor = layer.up[name](layer.down[name](x)) * (self.alpha / self.rank)
            return output + update.to(output)

        return add

    def _mask(self, given: Any, x: Tensor, n_heads: int, kernel: str) -> Tensor:
        if "flash" in kernel or "flex" in kernel or not (given is None or isinstance(given, Tensor)):
            raise BadInput(
                f"The kernel {kernel!r} takes no mask per head. Call model.set_attn_implementation('sdpa') to train, "
                "or set sparse='never'."
            )
        n_seq = x.shape[1]
        size = self.group or max(2, int(n_seq * self.ratio))
        seen = visible(n_seq, n_heads, size, self.shifted, self.n_sinks, device=x.device)[None]
        if given is not None and given.dtype == torch.bool:
            return given & seen
        floor = torch.finfo(x.dtype).min
        added = torch.zeros((), dtype=x.dtype, device=x.device) if given is None else given
        return torch.where(seen, added, floor)

    @classmethod
    def tiny(cls) -> Self:
        """A low rank, and groups that hold the tiny prompt whole: training and evaluation then agree."""
        return cls(rank=2, group=64, n_sinks=1, shifted=0.5)
