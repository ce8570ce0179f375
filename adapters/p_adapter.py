"""p-adapter: a gated bottleneck on attention that passes messages with a learned p-Laplacian.

Three graphs: `bipartite` (default) joins queries to values, row by row, so that step-by-step decoding equals a full
pass; `paper` adds the degree normalisation of the paper (no causal decoder: a degree needs later queries); `official`
is the released self-attention code, whose nodes are the values alone. There, a node's edge to itself outweighs all
others at p ≤ 1.5 (its share of a row is 0.99 and more), so that nearly no message is passed; `self_loops=False`
removes it. The block needs attention probabilities, so the attention it sits on runs eager while attached, and its
memory grows with rows × columns × width of a narrow head.

Reference: arXiv:2312.10613, eq. 6 to 9. Names of the authors' weights → ours: `text_laplacian_adapter_i` → `down`,
`…_gate` → `gate`, `…_o` → `up`, `laplacian_adapter_p` → `p`, `laplacian_adapter_mu` → `m`, `text_ffn_adapter.0` →
`down`, `text_ffn_adapter.2` → `up`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlmtools.adapters._p_laplacian import Bottleneck, PLayer
from vlmtools.adapters.base import Adapter, Handle, Site, Sizes, attentions, path_of
from vlmtools.errors import BadInput, CannotAttach
from vlmtools.families._cache import given_cache

OFFICIAL = {
    "text_laplacian_adapter_i": "down",
    "text_laplacian_adapter_gate": "gate",
    "text_laplacian_adapter_o": "up",
    "laplacian_adapter_p": "p",
    "laplacian_adapter_mu": "m",
    "text_ffn_adapter.0": "down",
    "text_ffn_adapter.2": "up",
}
"""Names of the authors' weights → ours."""


@dataclass(eq=False, repr=False)
class PAdapter(Adapter):
    """Adapters on self-attention, cross-attention and feed-forward blocks of a frozen model.

    Args:
        p: Exponent at the start, from 1; 2 is plain smoothing, the paper begins at 1.25 to 1.75.
        mu: Scale of what a node keeps, above 0; 0.1 or 10 in the paper.
        reduction: How much narrower the bottleneck is, from 1.
        pool: Nodes that the keys of a cross-attention are averaged to, from 1; 16 or 24 in the paper.
        learn_p: Train the exponent.
        graph: bipartite, paper or official; see the top of the file.
        self_loops: Keep a node's edge to itself in the official graph.
        ffn: Adapters beside the feed-forward blocks too.
        init: identity begins without effect; official as the released code.
        tower: text or vision, where the host has both.
    """

    starts_neutral: ClassVar[bool] = True

    p: float = 1.75
    mu: float = 0.1
    reduction: int = 8
    pool: int = 24
    learn_p: bool = True
    graph: Literal["bipartite", "paper", "official"] = "bipartite"
    self_loops: bool = True
    ffn: bool = True
    init: Literal["identity", "official"] = "identity"
    tower: Literal["text", "vision"] = "text"

    @classmethod
    def tiny(cls) -> "PAdapter":
        """Narrower by 2, since the tiny host has few channels per head."""
        return cls(reduction=2, pool=3)

    def check(self) -> None:
        """The numbers must be possible."""
        if self.p < 1 or self.mu <= 0 or self.reduction < 1 or self.pool < 1:
            raise BadInput(
                f"p={self.p}, mu={self.mu}, reduction={self.reduction}, pool={self.pool} cannot be. Choose p ≥ 1, "
                "mu > 0 and whole numbers from 1; the paper has 1.75, 0.1, 8 and 24."
            )

    def find(self, host: nn.Module) -> Sequence[Site]:
        """Attention blocks of BERT's form (BLIP, Q-Former) where there are any, else those of the tower.

        Args:
            host: The model.
        """
        blocks = [(name, one) for name, one in host.named_modules() if _is_bert(one)]
        sites = _bert_sites(blocks) if blocks else self._plain_sites(host)
        if self.ffn:
            sites += _ffn_sites(host, sites)
        for site in sites:
            self._fits(site)
        return sites

    def _plain_sites(self, host: nn.Module) -> list[Site]:
        found = [one for one in attentions(host, self.tower) if not one.cross]
        return [Site(one.name, one.module, _sizes("self", _width(one.o_proj), one.n_heads)) for one in found]

    def _fits(self, site: Site) -> None:
        dim, n_heads = site.sizes["dim"], site.sizes["n_heads"]
        if dim % (self.reduction * n_heads):
            raise CannotAttach(
                f"{site.name} is {dim} wide with {n_heads} heads: reduction {self.reduction} leaves no whole number of "
                f"channels per head. Choose a reduction that divides {dim // n_heads}."
            )
        if self.graph == "paper" and getattr(site.module, "is_causal", False):
            raise CannotAttach(
                f"{site.name} is causal, and the paper's graph needs every later query. Choose graph='bipartite'."
            )

    def layer(self, sizes: Sizes) -> nn.Module:
        """The layer of one block.

        Args:
            sizes: kind (self, cross or ffn), dim and n_heads.
        """
        from_zero = self.init == "identity"
        if sizes["kind"] == "ffn":
            return Bottleneck(sizes["dim"], self.reduction, from_zero)
        return PLayer(
            sizes["dim"], sizes["n_heads"], self.reduction, self.p, self.mu, self.learn_p, from_zero
        )

    def wire(self, host: nn.Module, site: Site, layer: Any) -> Iterator[Handle]:
        """Add the layer's output to that of the block.

        Args:
            host: The model.
            site: The block.
            layer: Its layer.
        """
        if site.sizes["kind"] == "ffn":
            yield from _wire_ffn(site.module, layer)
        elif _is_bert(site.module):
            yield from self._wire_bert(site, layer)
        else:
            yield from self._wire_plain(host, site, layer)

    def _wire_plain(self, host: nn.Module, site: Site, layer: PLayer) -> Iterator[Handle]:
        one = next(a for a in attentions(host, self.tower) if a.module is site.module)
        yield _Eager(one.module.config)
        seen: dict[str, Tensor] = {}
        yield from _record(seen, query=_child(one.module, _QUERY), value=_child(one.module, _VALUE))

        def add(module: Any, _: Any, kwargs: Mapping[str, Any], output: Any) -> Any:
            h, a, *rest = output
            values = _cached(seen, given_cache(kwargs), module, a.shape[-1])
            added = self._added(layer, one.o_proj, h, a, seen["query"], values, "self")
            return (h + added, a, *rest)

        yield one.module.register_forward_hook(add, with_kwargs=True)

    def _wire_bert(self, site: Site, layer: PLayer) -> Iterator[Handle]:
        block: Any = site.module
        inner, dense = block.self, block.output.dense
        seen: dict[str, Tensor] = {}
        yield from _record(seen, query=inner.query, value=inner.value)

        def keep(module: Any, _: Any, kwargs: Mapping[str, Any], output: Any) -> None:
            seen["a"] = output[1]
            seen["values"] = _cached(
                seen, given_cache(kwargs), module, output[1].shape[-1], site.sizes["kind"]
            )

        def add(_: Any, __: Any, h: Tensor) -> Tensor:
            return h + self._added(
                layer, dense, h, seen["a"], seen["query"], seen["values"], site.sizes["kind"]
            )

        yield inner.register_forward_hook(keep, with_kwargs=True)
        yield dense.register_forward_hook(add)

    def _added(
        self, layer: PLayer, o_proj: Any, h: Tensor, a: Tensor, query: Tensor, values: Tensor, kind: str
    ) -> Tensor:
        columns = o_proj.forward(values)
        if kind == "cross":
            a, columns = pooled(a, self.pool), pooled(columns.mT, self.pool).mT
        if kind == "self" and self.graph == "official":
            return layer.forward(h, a, columns[:, -h.shape[1] :], columns, "official", self.self_loops)
        graph = "bipartite" if self.graph == "official" else self.graph
        keep = not (kind == "cross" and self.graph == "official")
        return layer.forward(h, a, o_proj.forward(query), columns, graph, keep=keep)


def pooled(x: Tensor, n: int) -> Tensor:
    """Average the last axis to `n` entries.

    Args:
        x: Any shape.
        n: Entries; fewer than there are, or all stay.
    """
    flat = F.adaptive_avg_pool1d(x.flatten(0, -2), n)
    return flat.view(*x.shape[:-1], n)


_QUERY, _VALUE = ("q_proj", "query"), ("v_proj", "value")


class _Eager:
    """Attention gives its probabilities only when it runs eager."""

    def __init__(self, config: Any) -> None:
        self.config, self.before = config, config._attn_implementation
        config._attn_implementation = "eager"

    def remove(self) -> None:
        self.config._attn_implementation = self.before


def _sizes(kind: str, dim: int, n_heads: int) -> dict[str, Any]:
    return {"kind": kind, "dim": dim, "n_heads": n_heads}


def _is_bert(module: Any) -> bool:
    inner, output = getattr(module, "self", None), getattr(module, "output", None)
    return hasattr(inner, "query") and hasattr(output, "dense") and hasattr(inner, "value")


def _bert_sites(blocks: Sequence[tuple[str, Any]]) -> list[Site]:
    return [
        Site(name, one, _sizes(_kind(name), one.output.dense.out_features, one.self.num_attention_heads))
        for name, one in blocks
    ]


def _kind(name: str) -> str:
    return "cross" if "crossattention" in name.rpartition(".")[2].lower().replace("_", "") else "self"


def _ffn_sites(host: nn.Module, sites: Sequence[Site]) -> list[Site]:
    found: dict[str, Site] = {}
    for site in sites:
        parent = host.get_submodule(site.name.rpartition(".")[0])
        block = _ffn(parent)
        if block is not None:
            path = path_of(host, block)
            found[path] = Site(path, block, _sizes("ffn", site.sizes["dim"], site.sizes["n_heads"]))
    return list(found.values())


def _ffn(layer: Any) -> nn.Module | None:
    if hasattr(layer, "intermediate") and hasattr(getattr(layer, "output", None), "dense"):
        block: nn.Module = layer.output
        return block
    return getattr(layer, "mlp", None)


def _wire_ffn(block: Any, layer: Bottleneck) -> Iterator[Handle]:
    if not hasattr(block, "LayerNorm"):
        yield block.register_forward_hook(lambda _, args, y: y + layer.forward(args[0]))
        return
    # BERT's output block: the residual comes in as the second argument, the norm is inside
    seen: dict[str, Tensor] = {}
    yield block.register_forward_pre_hook(lambda _, args: seen.update(x=args[1]))
    yield block.dense.register_forward_hook(lambda _, __, y: y + layer.forward(seen["x"]))


def _record(seen: dict[str, Tensor], **modules: nn.Module) -> Iterator[Handle]:
    for name, module in modules.items():
        yield module.register_forward_hook(lambda _, __, y, name=name: seen.update({name: y}))


def _child(module: Any, names: Sequence[str]) -> nn.Module:
    for name in names:
        if hasattr(module, name):
            found: nn.Module = getattr(module, name)
            return found
    raise CannotAttach(
        f"{type(module).__name__} has no projection named {' or '.join(names)}: the p-adapter reads queries and values."
    )


def _cached(seen: Mapping[str, Tensor], cache: Any, module: Any, n_keys: int, kind: str = "self") -> Tensor:
    """Values of all keys, one head beside the other; those of earlier steps lie in the cache."""
    if cache is None:
        return _heads_side_by_side(seen["value"], module)
    for name in ("cross_attention_cache",) if kind == "cross" else ("self_attention_cache",):
        cache = getattr(cache, name, cache)
    values = cache.layers[module.layer_idx].values[:, :, :n_keys]
    return _spread(values, module)


def _heads_side_by_side(value: Tensor, module: Any) -> Tensor:
    if getattr(module, "num_key_value_groups", 1) == 1:
        return value
    return _spread(torch.unflatten(value, -1, (-1, module.head_dim)).transpose(1, 2), module)


def _spread(values: Tensor, module: Any) -> Tensor:
    full = values.repeat_interleave(getattr(module, "num_key_value_groups", 1), 1)
    return full.transpose(1, 2).flatten(2)


def _width(o_proj: Any) -> int:
    return int(o_proj.out_features)
