"""Information-theoretic hierarchical perception: text states squeezed to what the picture can confirm.

In a vision-language model the text states before one decoder layer are the prime modality; the first code must predict
the picture as the language model gets it, the second the picture as the vision tower gives it (both averaged over the
patches and squashed into 0 to 1). The last code is added to the states, through a projection that starts at zero.
The paper has sound in the place of one of the pictures, and a LayerNorm over the sum, which the host has already.

Reference: arXiv:2404.09403, joshuaxiao98/ITHP.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from vlmtools.adapters._tower import connector_of
from vlmtools.adapters.base import Adapter, Handle, Site, Sizes, attentions
from vlmtools.errors import BadInput, CannotAttach
from vlmtools.layers.information_bottleneck import HierarchicalBottleneck


class _Fusion(nn.Module):
    """The bottlenecks of one layer and the way back."""

    def __init__(self, sizes: Sizes, d_code: tuple[int, int], hidden: int, dropout: float) -> None:
        super().__init__()
        self.bottleneck = HierarchicalBottleneck(
            sizes["d_text"], sizes["d_first"], sizes["d_second"], d_code, hidden, dropout
        )
        self.back = nn.Linear(d_code[1], sizes["d_text"])
        nn.init.zeros_(self.back.weight)
        nn.init.zeros_(self.back.bias)


@dataclass(eq=False, repr=False)
class Ithp(Adapter):
    """Two bottlenecks before one decoder layer; reports the loss `bottleneck`.

    Args:
        at: Decoder layer, from 0; negative ones count from the end.
        d_first: Width of the first code.
        d_second: Width of the second code.
        hidden: Hidden width of encoders and decoders.
        beta: Weight of the first prediction.
        gamma: Weight of the second prediction.
        lam: Weight of the second bottleneck; 0 drops it.
        shift: Factor of what is added to the states; 0 adds nothing.
        dropout: Share of units dropped in training; 0 drops none.
        sample: Codes are drawn in evaluation too, as the authors do; False uses their means there.
    """

    starts_neutral = True

    at: int = -1
    d_first: int = 128
    d_second: int = 64
    hidden: int = 256
    beta: float = 8.0
    gamma: float = 32.0
    lam: float = 0.3
    shift: float = 1.0
    dropout: float = 0.3
    sample: bool = False

    def __post_init__(self) -> None:
        """No picture seen yet."""
        super().__post_init__()
        self.seen: dict[str, Tensor] = {}

    def check(self) -> None:
        """Widths from 1, weights from 0."""
        if min(self.d_first, self.d_second, self.hidden) < 1 or min(self.beta, self.gamma, self.lam) < 0:
            raise BadInput("d_first, d_second and hidden count from 1; beta, gamma and lam are not negative.")

    def find(self, host: nn.Module) -> Sequence[Site]:
        """One decoder layer."""
        found, connector = attentions(host, "text"), connector_of(host)
        if connector is None or not -len(found) <= self.at < len(found):
            raise CannotAttach(
                f"{type(host).__name__} has {len(found)} decoder layers and "
                f"{'a' if connector is not None else 'no'} connector; at={self.at} needs that layer and a connector."
            )
        name = found[self.at].name.rpartition(".")[0]
        widths: list[Any] = [one for one in connector.modules() if hasattr(one, "in_features")]
        text = found[self.at].o_proj
        sizes = {
            "d_text": int(getattr(text, "out_features", 0)),
            "d_first": int(widths[-1].out_features),
            "d_second": int(widths[0].in_features),
        }
        return [Site(name, host.get_submodule(name), sizes)]

    def layer(self, sizes: Sizes) -> nn.Module:
        """The bottlenecks."""
        return _Fusion(sizes, (self.d_first, self.d_second), self.hidden, self.dropout)

    def wire(self, host: nn.Module, site: Site, layer: _Fusion) -> Iterator[Handle]:
        """Watch the connector, change what enters the layer."""

        def look(_: nn.Module, args: Any, output: Tensor) -> None:
            self.seen = {"first": output.detach(), "second": args[0].detach()}

        def enter(_: nn.Module, args: Any, kwargs: Any) -> Any:
            given = args[0] if args else kwargs["hidden_states"]
            x = self._squeezed(given, layer, site.name)
            return ((x, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": x})

        connector = connector_of(host)
        assert connector is not None  # noqa: S101 - `find` saw it
        yield host.register_forward_pre_hook(lambda *_: self.seen.clear())
        yield connector.register_forward_hook(look)
        yield site.module.register_forward_pre_hook(enter, with_kwargs=True)

    def _squeezed(self, x: Tensor, layer: _Fusion, site: str) -> Tensor:
        part = layer.bottleneck
        ends: list[Any] = [part.first.decoder[-3], part.second.decoder[-3]]
        sample = self.training or self.sample
        if self.seen:
            first, second = (
                _pooled(self.seen[name], len(x)).expand(-1, x.shape[1], -1) for name in self.seen
            )
        else:  # a later token or a prompt without picture: nothing to predict
            first, second = (x.new_zeros(*x.shape[:2], int(one.out_features)) for one in ends)
        found = part(x, first.to(x), second.to(x), sample=sample)
        if self.seen:
            weight = 2 / max(self.beta + self.gamma, 1e-9)
            self.add_loss("bottleneck", found.loss(self.beta, self.gamma, self.lam), weight, site)
        added: Tensor = x + self.shift * layer.back(found.code)
        return added

    @classmethod
    def tiny(cls) -> Self:
        """Narrow codes."""
        return cls(d_first=8, d_second=4, hidden=16, dropout=0.0)


def _pooled(features: Tensor, n_rows: int) -> Tensor:
    """(rows, 1, width): the mean over the patches, in 0 to 1; pictures of one row are averaged."""
    means = features.reshape(-1, features.shape[-2], features.shape[-1]).float().mean(dim=1)
    if len(means) != n_rows:
        if n_rows != 1:
            raise BadInput(
                f"{len(means)} pictures for {n_rows} prompts: ITHP needs one each. Give a batch of one prompt, or as "
                "many pictures as prompts."
            )
        means = means.mean(dim=0, keepdim=True)
    return torch.sigmoid(means)[:, None]
