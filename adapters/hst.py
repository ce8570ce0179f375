"""Hierarchical Side-Tuning: a small pyramid beside a frozen vision tower reads every block through meta tokens.

In a vision-language model the last map of the pyramid is added to the patches the connector gets, through a projection
that starts at zero; the paper classifies with the side network alone, as a tower with a head does here. In that tower
`hidden_states[0]`, if asked for, shows the meta tokens of the first block.

Reference: arXiv:2310.05393; AFeng-x/HST.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlmtools.adapters._official_names import translated
from vlmtools.adapters._tower import connector_of, patch_embedding, vision_blocks
from vlmtools.adapters.base import Adapter, Handle, Site, Sizes
from vlmtools.errors import BadInput, CannotAttach
from vlmtools.layers.side_network import OFFICIAL_NAMES, SideFeatures, SideNetwork


class _Meta(nn.Module):
    """The meta tokens of one block."""

    def __init__(self, n: int, dim: int) -> None:
        super().__init__()
        self.tokens = nn.Parameter(nn.init.xavier_uniform_(torch.empty(1, n, dim)))


@dataclass(slots=True, eq=False)
class _Pass:
    """What one pass of the tower has shown so far."""

    pixels: Tensor | None = None
    grid: tuple[int, int] = (0, 0)
    states: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)


@dataclass(eq=False, repr=False)
class Hst(Adapter):
    """A side network for towers in the manner of ViT; trains the LayerNorms of the blocks it reads as well.

    Args:
        channels: Width of each stage.
        heads: Attention heads of each stage.
        depths: Blocks each stage reads; empty shares all blocks evenly. The paper has (3, 3, 3, 3).
        n_meta: Meta tokens per block, from 1.
        n_classes: Classes of the head, for towers that classify; 0 for none.
    """

    channels: tuple[int, ...] = (32, 48, 64, 72)
    heads: tuple[int, ...] = (2, 4, 8, 12)
    depths: tuple[int, ...] = ()
    n_meta: int = 1
    n_classes: int = 0

    def __post_init__(self) -> None:
        """Nothing seen yet."""
        super().__post_init__()
        self.seen = _Pass()
        self.result: SideFeatures | None = None

    def check(self) -> None:
        """Stages must agree."""
        lengths = {len(self.channels), len(self.heads), len(self.depths) or len(self.channels)}
        if len(lengths) > 1 or any(c % h for c, h in zip(self.channels, self.heads, strict=True)):
            raise BadInput(
                f"channels {self.channels}, heads {self.heads} and depths {self.depths} do not fit: one number per "
                "stage in each, and heads divide channels."
            )

    def find(self, host: nn.Module) -> Sequence[Site]:
        """The blocks of the vision tower that are read."""
        blocks = vision_blocks(host)
        patch_embedding(host, blocks)
        depths = self.depths or self._even(len(blocks))
        if sum(depths) > len(blocks):
            raise CannotAttach(f"depths {depths} need {sum(depths)} blocks; the tower has {len(blocks)}.")
        into = connector_of(host) is not None
        sizes = {"dim": blocks[0].dim, "depths": list(depths), "into_connector": into}
        return [Site(block.name, block.module, sizes) for block in blocks[: sum(depths)]]

    def _even(self, n_blocks: int) -> tuple[int, ...]:
        n = len(self.channels)
        if n_blocks < n:
            raise CannotAttach(
                f"The tower has {n_blocks} blocks, fewer than the {n} stages. Give fewer channels."
            )
        return tuple((i + 1) * n_blocks // n - i * n_blocks // n for i in range(n))

    def layer(self, sizes: Sizes) -> nn.Module:
        """Meta tokens."""
        return _Meta(self.n_meta, sizes["dim"])

    def shared(self, sizes: Mapping[str, Sizes]) -> Mapping[str, nn.Module]:
        """The side network, and the way into the connector."""
        one = next(iter(sizes.values()))
        side = SideNetwork(one["dim"], self.channels, self.heads, one["depths"], self.n_classes)
        if not one["into_connector"]:
            return {"side": side}
        feed = nn.Linear(self.channels[-1], one["dim"])
        nn.init.zeros_(feed.weight)
        nn.init.zeros_(feed.bias)
        return {"side": side, "feed": feed}

    def trained_in_host(self, host: nn.Module) -> Sequence[str]:
        """LayerNorms of the blocks that are read."""
        names = []
        for site in self.find(host):
            for path, module in site.module.named_modules():
                if isinstance(module, nn.LayerNorm):
                    names += [f"{site.name}.{path}.{one}" for one, _ in module.named_parameters()]
        return names

    def wire(self, host: nn.Module, site: Site, layer: _Meta) -> Iterator[Handle]:
        """Meta tokens in before the block, out after it."""
        if site.name == next(iter(self.sizes)):
            yield from self._ends(host)

        def enter(_: nn.Module, args: Any, kwargs: Any) -> Any:
            given = args[0] if args else kwargs["hidden_states"]
            x = torch.cat([layer.tokens.to(given).expand(len(given), -1, -1), given], dim=1)
            return ((x, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": x})

        def leave(_: nn.Module, __: Any, output: Any) -> Any:
            whole = output[0] if isinstance(output, tuple) else output
            meta, rest = whole[:, : self.n_meta], whole[:, self.n_meta :]
            n_patches = self.seen.grid[0] * self.seen.grid[1]
            self.seen.states[site.name] = (meta, rest[:, rest.shape[1] - n_patches :])
            return (rest, *output[1:]) if isinstance(output, tuple) else rest

        yield site.module.register_forward_pre_hook(enter, with_kwargs=True)
        # first in line, so that whoever records hidden states sees no meta tokens
        yield site.module.register_forward_hook(leave, prepend=True)

    def _ends(self, host: nn.Module) -> Iterator[Handle]:
        """Where pictures come in and where the side network is read."""
        yield patch_embedding(host, vision_blocks(host)).register_forward_hook(self._begins)
        connector = connector_of(host)
        if connector is not None:
            yield connector.register_forward_pre_hook(self._add)
        else:
            yield host.register_forward_hook(self._classify)

    def _begins(self, _: nn.Module, args: Any, output: Tensor) -> None:
        self.seen = _Pass(args[0], (output.shape[2], output.shape[3]))
        self.result = None

    def _read(self) -> SideFeatures:
        states = [self.seen.states[name] for name in self.sizes]
        assert self.seen.pixels is not None  # noqa: S101 - the patch embedding ran before
        result: SideFeatures = self.layers["side"](self.seen.pixels, states, self.seen.grid)
        self.seen = _Pass(grid=self.seen.grid)
        self.result = result
        return result

    def _add(self, _: nn.Module, args: Any) -> Any:
        features, grid = args[0], self.seen.grid
        last = F.interpolate(self._read().maps[-1], size=grid, mode="bilinear", align_corners=False)
        extra = self.layers["feed"](last.flatten(2).transpose(1, 2)).to(features)
        n_first = features.shape[-2] - extra.shape[1]
        if features.dim() != 3 or n_first < 0 or len(features) != len(extra):
            raise BadInput(
                f"The connector gets features of shape {tuple(features.shape)}, the tower gave {tuple(extra.shape)}: "
                "this host rearranges patches before its connector, which side-tuning cannot follow."
            )
        return (features + F.pad(extra, (0, 0, n_first, 0)), *args[1:])

    def _classify(self, _: nn.Module, __: Any, output: Any) -> Any:
        result = self._read()
        if result.logits is not None and getattr(output, "logits", None) is not None:
            output.logits = result.logits
        return output

    def load_official(self, state: Mapping[str, Tensor]) -> None:
        """Take over side network, bridges and meta tokens under the authors' names.

        Args:
            state: Official parameter name → tensor; what belongs to the backbone, or to blocks that no stage reads, is
                passed over.
        """
        parts = {"m_", "T_", "he", "fc"}
        unread = tuple(f"m_proj_norm{n + 1}." for n in range(len(self.sizes), _n_blocks(state)))
        passed = ("m_embeddings", *unread)
        own = {n: t for n, t in state.items() if n[:2] in parts and not n.startswith(passed)}
        self.layers["side"].load_state_dict(translated(own, OFFICIAL_NAMES))
        for index, name in enumerate(self.sizes):
            tokens = self.layers[name.replace(".", "-")].get_parameter("tokens")
            tokens.data = state[f"m_embeddings.{index}"].to(tokens).clone()

    @classmethod
    def tiny(cls) -> Self:
        """Two stages of one block."""
        return cls(channels=(4, 8), heads=(2, 2))


def _n_blocks(state: Mapping[str, Tensor]) -> int:
    """Blocks of the authors' backbone: each has meta tokens."""
    return sum(name.startswith("m_embeddings.") for name in state)
