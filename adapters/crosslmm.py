"""CrossLMM: a few pooled tokens per frame in the prompt, all of them within reach of cross-attention.

The paper's code is not public: this is a reading of its text. Every picture (or frame) enters the prompt as few pooled
tokens; in some layers of the language model these, and the words, attend to all tokens of the pictures. Each step is
multiplied by tanh of a gate that begins at 0.

Reference: arXiv:2505.17020.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from vlmtools.adapters._host import seat
from vlmtools.adapters._pictures import InForward
from vlmtools.adapters.base import Adapter, Handle, Site, Sizes, path_of
from vlmtools.errors import BadInput, CannotAttach
from vlmtools.families._cache import given_cache
from vlmtools.families._probe import anatomy, image_token
from vlmtools.families._refuse import refuse_encoded


def pool_tokens(tokens: Float[Tensor, "frame patch dim"], n: int) -> Float[Tensor, "frame pooled dim"]:
    """Bilinear resizing of a square grid of tokens.

    Args:
        tokens: All of a frame.
        n: How many remain, a square number; 0 keeps all.

    Raises:
        BadInput: The tokens are no square grid.
    """
    if not n:
        return tokens
    side, small = math.isqrt(tokens.shape[1]), math.isqrt(n)
    if side**2 != tokens.shape[1]:
        raise BadInput(f"{tokens.shape[1]} tokens are no square grid to pool. Set n_pooled=0.")
    grid = torch.unflatten(tokens.mT, -1, (side, side))
    pooled = F.interpolate(grid.float(), (small, small), mode="bilinear", align_corners=False)
    return pooled.flatten(2).mT.to(tokens.dtype)


@dataclass(slots=True)
class Seen:
    """What the language model may look at during one prompt and the steps after it.

    Args:
        tokens: (batch, token, dim), all tokens of a prompt's pictures side by side; None before a picture came.
        real: Which of them are of that prompt.
        places: Image tokens of the present step; None where there is none.
        known: Place → keys and values of `tokens`, computed once per prompt.
    """

    tokens: Tensor | None = None
    real: Tensor | None = None
    places: Bool[Tensor, "batch seq"] | None = None
    known: dict[tuple[str, str], tuple[Tensor, Tensor]] = field(default_factory=dict)

    def forget(self) -> None:
        """A new prompt begins."""
        self.tokens = self.real = None
        self.known.clear()


class GatedCross(nn.Module):
    """Cross-attention behind a gate that begins closed.

    Args:
        dim: Width of the tokens.
        n_heads: Attention heads.
    """

    def __init__(self, dim: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.norm, self.norm_source = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.q, self.k, self.v, self.o = (nn.Linear(dim, dim, bias=False) for _ in range(4))
        self.gate = nn.Parameter(torch.zeros(1))

    def source(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values.

        Args:
            tokens: Of the pictures.
        """
        normed = self.norm_source(tokens)
        return self._split(self.k(normed)), self._split(self.v(normed))

    def forward(self, x: Tensor, source: tuple[Tensor, Tensor], real: Tensor) -> Tensor:
        """What is added to `x`.

        Args:
            x: (batch, seq, dim).
            source: Keys and values.
            real: (batch, token), which of them belong to the row's prompt.
        """
        some = real.any(1)
        # a prompt without picture has no key at all, which softmax cannot take: let it look, and drop what it saw
        mask = (real | ~some[:, None])[:, None, None]
        q = self._split(self.q(self.norm(x)))
        y = F.scaled_dot_product_attention(q, *source, attn_mask=mask).transpose(1, 2).flatten(2)
        added: Tensor = self.gate.tanh() * self.o(y)
        return added * some[:, None, None]

    def _split(self, x: Tensor) -> Tensor:
        return torch.unflatten(x, -1, (self.n_heads, -1)).transpose(1, 2)


@dataclass(eq=False, repr=False)
class CrossLMM(Adapter):
    """Gated cross-attention from pooled tokens and words to all tokens of the pictures.

    Args:
        n_pooled: Tokens per picture in the prompt, a square number; 1, 9 or 16 in the paper; 0 keeps all.
        every: Distance between the layers that have cross-attention, from 1, beginning with the first.
        n_heads: Attention heads; must divide the width of the language model.
    """

    starts_neutral: ClassVar[bool] = True

    n_pooled: int = 9
    every: int = 4
    n_heads: int = 8

    def __post_init__(self) -> None:
        """Nothing has been seen yet."""
        super().__post_init__()
        self.seen = Seen()

    @classmethod
    def tiny(cls) -> "CrossLMM":
        """All tokens stay, so that the tiny prompt fits."""
        return cls(n_pooled=0, every=2, n_heads=2)

    def check(self) -> None:
        """The counts must be possible."""
        if self.n_pooled < 0 or math.isqrt(self.n_pooled) ** 2 != self.n_pooled or self.every < 1:
            raise BadInput(
                f"n_pooled={self.n_pooled}, every={self.every} cannot be. Choose a square number and a whole "
                "number from 1."
            )

    def find(self, host: nn.Module) -> Sequence[Site]:
        """Every so many-th decoder layer.

        Args:
            host: The model.
        """
        body = anatomy(host)
        if body.image_token_id is None:
            raise CannotAttach(
                f"{type(host).__name__} has no image token: CrossLMM needs pictures in the token sequence."
            )
        dim = int(body.decoder.get_input_embeddings().weight.shape[1])
        if dim % self.n_heads:
            raise BadInput(f"n_heads={self.n_heads} does not divide the width {dim}. Choose a divisor.")
        return [Site(path_of(host, layer), layer, {"dim": dim}) for layer in body.layers[:: self.every]]

    def layer(self, sizes: Sizes) -> nn.Module:
        """Two gated cross-attentions: of pooled tokens, and of words.

        Args:
            sizes: dim.
        """
        return nn.ModuleDict({name: GatedCross(sizes["dim"], self.n_heads) for name in ("visual", "text")})

    def wire(self, host: nn.Module, site: Site, layer: Any) -> Iterator[Handle]:
        """Cross-attention before one decoder layer; with the first one, what watches the prompt and the pictures.

        Args:
            host: The model.
            site: The decoder layer.
            layer: Its cross-attentions.
        """
        if site.name == next(iter(self.sizes)):
            yield InForward(host)
            yield host.register_forward_pre_hook(self._prompt, with_kwargs=True)
            parent, name, _ = seat(host)
            yield parent.get_submodule(name).register_forward_hook(self._pictures)
            yield _Forget(self.seen)

        def read(
            _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
        ) -> tuple[tuple[Any, ...], dict[str, Any]]:
            if args:
                return (self._read(site.name, layer, args[0]), *args[1:]), kwargs
            return args, {**kwargs, "hidden_states": self._read(site.name, layer, kwargs["hidden_states"])}

        yield site.module.register_forward_pre_hook(read, with_kwargs=True)

    def _prompt(self, host: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        refuse_encoded(kwargs, self.name)
        ids = args[0] if args else kwargs.get("input_ids")
        cache = given_cache(kwargs)
        if cache is None or cache.get_seq_length() == 0:
            self.seen.forget()
        self.seen.places = None if ids is None else ids == image_token(host.config)

    def _pictures(self, _: Any, __: Any, output: Any) -> Any:
        frames = output[0] if isinstance(output, tuple) else output
        if frames.dim() != 3:
            raise BadInput(
                "CrossLMM needs pictures of equal size, one row of tokens each. Use another family."
            )
        pooled = pool_tokens(frames, self.n_pooled)
        if self.seen.places is not None:
            n_frames = (self.seen.places.sum(1) // pooled.shape[1]).tolist()
            self._check_counts(n_frames, pooled)
            self.seen.tokens, self.seen.real = beside(frames, n_frames)
        return (pooled, *output[1:]) if isinstance(output, tuple) else pooled

    def _check_counts(self, n_frames: Sequence[int], pooled: Tensor) -> None:
        if sum(n_frames) != len(pooled):
            raise BadInput(
                f"The prompts hold image tokens for {sum(n_frames)} pictures of {pooled.shape[1]} tokens; there are "
                f"{len(pooled)}. Write {pooled.shape[1]} image tokens per picture, or choose n_pooled (now "
                f"{self.n_pooled}) to fit; 0 keeps all."
            )

    def _read(self, site: str, layer: Any, x: Tensor) -> Tensor:
        tokens, real = self.seen.tokens, self.seen.real
        if tokens is None or real is None:
            return x
        added = {name: self._look(site, name, layer[name], x, tokens, real) for name in ("visual", "text")}
        places = self.seen.places
        visual = places if places is not None else torch.zeros(x.shape[:2], dtype=torch.bool, device=x.device)
        return x + torch.where(visual[..., None], added["visual"], added["text"])

    def _look(self, site: str, name: str, cross: Any, x: Tensor, tokens: Tensor, real: Tensor) -> Tensor:
        source = self.seen.known.get((site, name))
        if source is None or self.training:
            source = cross.source(tokens.to(x.dtype))
            self.seen.known[site, name] = source
        times = len(x) // len(tokens)  # beams
        keys, values = (one.repeat_interleave(times, 0) for one in source)
        added: Tensor = cross(x, (keys, values), real.repeat_interleave(times, 0))
        return added


def beside(frames: Float[Tensor, "frame patch dim"], n_frames: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The tokens of each prompt's frames side by side, padded, and which of them are real.

    Args:
        frames: Of all prompts, in order.
        n_frames: Per prompt.
    """
    longest, n = max([*n_frames, 1]), frames.shape[1]
    rows = torch.split(frames, list(n_frames))
    tokens = torch.stack([F.pad(row.flatten(0, 1), (0, 0, 0, (longest - len(row)) * n)) for row in rows])
    counts = torch.tensor(n_frames, device=frames.device)[:, None] * n
    return tokens, torch.arange(longest * n, device=frames.device) < counts


class _Forget:
    """Leave no picture behind."""

    def __init__(self, seen: Seen) -> None:
        self.seen = seen

    def remove(self) -> None:
        self.seen.forget()
        self.seen.places = None
