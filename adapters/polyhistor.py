"""Polyhistor and Polyhistor-Lite: bottlenecks for many tasks and layers, written by two hypernetworks.

No code of the paper has been published. This is our reading of its figures; `lite` grows one small template by a kernel
per task and block, without it each width has hypernetworks of its own.

Reference: arXiv:2210.03265.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from vlmtools.adapters.base import Adapter, Handle, Site, Sizes
from vlmtools.errors import BadInput, CannotAttach
from vlmtools.layers.kronecker_template import Activation, bottleneck, grown, template

MLPS = ("mlp", "feed_forward", "ffn")
"""What the MLP of a block is called."""


class _Kernels(nn.Module):
    """What one place adds: its embeddings for down and up, and for each task a kernel for both."""

    def __init__(self, n_tasks: int, n_embed: int, scale: int) -> None:
        super().__init__()
        self.embedding = nn.Parameter(torch.randn(2, n_embed))
        down = torch.randn(n_tasks, scale, scale) / scale
        self.kernels = nn.Parameter(torch.stack([down, torch.zeros_like(down)], dim=1))


class _Hyper(nn.Module):
    """Two linear hypernetworks per template size; all tasks, layers and positions share them."""

    def __init__(
        self, shapes: Sequence[tuple[int, int]], n_tasks: int, n_embed: int, rank: int, kernel_first: bool
    ) -> None:
        super().__init__()
        self.rank, self.kernel_first = rank, kernel_first
        self.tasks = nn.Parameter(torch.randn(n_tasks, n_embed))
        spread = (2 * n_embed) ** -0.5
        self.left = nn.ParameterDict(
            {f"{d}x{n}": torch.randn(d * rank, 2 * n_embed) * spread for d, n in shapes}
        )
        self.right = nn.ParameterDict(
            {f"{d}x{n}": torch.randn(rank * n, 2 * n_embed) * spread * d**-0.5 for d, n in shapes}
        )

    def forward(self, task: int, place: _Kernels, shape: tuple[int, int], which: int) -> Tensor:
        size, embedding = f"{shape[0]}x{shape[1]}", torch.cat([self.tasks[task], place.embedding[which]])
        small = template(embedding, self.left[size], self.right[size], self.rank)
        return grown(small, place.kernels[task, which], self.kernel_first)


@dataclass(eq=False, repr=False)
class Polyhistor(Adapter):
    """A bottleneck after attention and after the MLP of every block; its weights come from the task and the place.

    Args:
        tower: Where: vision, text or all.
        n_tasks: Tasks that share the hypernetworks, from 1.
        task: The task in hand, from 0; may be changed at any time.
        reduction: Width over bottleneck width; the paper has 16.
        rank: Rank of the templates, from 1.
        n_embed: Width of the embeddings of tasks and places.
        lite: True grows templates of the smallest width by kernels; False has hypernetworks for every width.
        scale: Size of the kernels at the smallest width when `lite`; 1 makes the template as wide as that.
        activation: Inside the bottleneck.
        kernel_first: The product is kernel ⊗ template; False turns it round. The paper shows neither order.
    """

    starts_neutral = True

    tower: Literal["vision", "text", "all"] = "vision"
    n_tasks: int = 1
    task: int = 0
    reduction: int = 16
    rank: int = 4
    n_embed: int = 64
    lite: bool = True
    scale: int = 1
    activation: Activation = "gelu"
    kernel_first: bool = True

    def check(self) -> None:
        """Counts from 1, and a task that exists."""
        if min(self.n_tasks, self.reduction, self.rank, self.n_embed, self.scale) < 1:
            raise BadInput("n_tasks, reduction, rank, n_embed and scale count from 1.")
        if not 0 <= self.task < self.n_tasks:
            raise BadInput(f"There is no task {self.task}: tasks count from 0 to {self.n_tasks - 1}.")

    def find(self, host: nn.Module) -> Sequence[Site]:
        """Attention and MLP of every block that has both, and is read."""
        pairs = [pair for name, block in self._parts(host) if (pair := self._pair(name, block))]
        found = [site for pair in pairs[: len(pairs) - self._unread(host)] for site in pair]
        if not found:
            raise CannotAttach(
                f"{type(host).__name__} has no block with an attention and one of {', '.join(MLPS)} in tower "
                f"{self.tower!r}. Choose another tower: text, vision or all."
            )
        smallest = min(width for _, _, width in found)
        return [Site(name, module, self._sizes(width, smallest)) for name, module, width in found]

    def _unread(self, host: nn.Module) -> int:
        """Blocks at the end of the vision tower that the host does not read: LLaVA takes the last but one."""
        layer = getattr(getattr(host, "config", None), "vision_feature_layer", None)
        return -layer - 1 if self.tower == "vision" and isinstance(layer, int) and layer < 0 else 0

    def _sizes(self, width: int, smallest: int) -> Sizes:
        scale = width // smallest * self.scale if self.lite else 1
        d, odd = divmod(width, scale)
        n, rest = divmod(d, self.reduction)
        if odd or rest or not n:
            raise CannotAttach(
                f"A width of {width} cannot be divided by the kernel's size {scale} and by reduction="
                f"{self.reduction}. Choose numbers whose product divides it."
            )
        return {"d": d, "n": n, "scale": scale}

    def _parts(self, host: nn.Module) -> Iterator[tuple[str, nn.Module]]:
        towers = {id(one) for one in self._towers(host)}
        inside: tuple[str, ...] = tuple(
            f"{name}." if name else "" for name, one in host.named_modules() if id(one) in towers
        )
        return ((name, one) for name, one in host.named_modules() if name.startswith(inside))

    def _towers(self, host: Any) -> list[nn.Module]:
        if not hasattr(host, "get_decoder") or not hasattr(host, "generate") or self.tower == "all":
            return [host]
        return [host.get_encoder(modality="image") if self.tower == "vision" else host.get_decoder()]

    def _pair(self, name: str, block: nn.Module) -> list[tuple[str, nn.Module, int]]:
        children = dict(block.named_children())
        attention = [key for key, one in children.items() if "Attention" in type(one).__name__]
        mlp = [key for key in children if key in MLPS]
        if not attention or not mlp:
            return []
        # the last projection of the MLP is as wide as the block
        widths: list[Any] = [
            one.out_features for one in children[mlp[0]].modules() if hasattr(one, "out_features")
        ]
        return [(f"{name}.{key}", children[key], int(widths[-1])) for key in (attention[0], mlp[0])]

    def layer(self, sizes: Sizes) -> nn.Module:
        """Embeddings and kernels of one place."""
        return _Kernels(self.n_tasks, self.n_embed, sizes["scale"])

    def shared(self, sizes: Mapping[str, Sizes]) -> Mapping[str, nn.Module]:
        """The hypernetworks."""
        shapes = sorted({(one["d"], one["n"]) for one in sizes.values()})
        return {"hyper": _Hyper(shapes, self.n_tasks, self.n_embed, self.rank, self.kernel_first)}

    def weights(self, place: str, task: int) -> tuple[Tensor, Tensor]:
        """The bottleneck of one place for one task: down and up, both (width, bottleneck).

        Args:
            place: Dotted path.
            task: From 0.
        """
        sizes, layer = self.sizes[place], self.layers[place.replace(".", "-")]
        shape = sizes["d"], sizes["n"]
        down, up = (self.layers["hyper"](task, layer, shape, which) for which in (0, 1))
        return down, up

    @torch.no_grad()
    def materialise(self, task: int) -> dict[str, Tensor]:
        """Plain bottleneck weights of one task, `<place>.down` and `<place>.up`, for use without hypernetworks.

        Args:
            task: From 0.
        """
        pairs = {place: self.weights(place, task) for place in self.sizes}
        return {
            f"{p}.{kind}": one
            for p, both in pairs.items()
            for kind, one in zip(("down", "up"), both, strict=True)
        }

    def wire(self, host: nn.Module, site: Site, layer: _Kernels) -> Iterator[Handle]:
        """Change what the part gives."""

        def change(_: nn.Module, __: Any, output: Any) -> Any:
            x = output[0] if isinstance(output, tuple) else output
            down, up = self.weights(site.name, self.task)
            y = bottleneck(x, down.to(x), up.to(x), self.activation)
            return (y, *output[1:]) if isinstance(output, tuple) else y

        yield site.module.register_forward_hook(change)

    @classmethod
    def tiny(cls) -> Self:
        """Small templates, kernels of two."""
        return cls(reduction=4, rank=2, n_embed=6, scale=2)
