"""Hierarchical questions: a prompt per level of detail, the picture asks the question, answers per level.

No code of the paper has been found; this is our reading of it. The patches that leave the connector read the level's
prompt and the words of the question; what they read is added through a projection that starts at zero, so that the
language model is the answer decoder. With `n_answers`, `answer_logits` gives the levels' closed answers as well.

In training, `labels` tell question from answer: only words with label −100 are read, so that no answer leaks.

Reference: arXiv:2504.03135.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vlmtools.adapters._host import SEATS, seat
from vlmtools.adapters._pictures import InForward
from vlmtools.adapters.base import Adapter, Handle, Site, Sizes
from vlmtools.errors import BadInput, CannotAttach
from vlmtools.families._probe import image_token
from vlmtools.families._refuse import refuse_encoded


class _Levels(nn.Module):
    """Prompts, fusion and answers of all levels."""

    def __init__(self, dim: int, n_levels: int, n_prompt: int, n_heads: int, n_answers: int) -> None:
        super().__init__()
        self.prompts = nn.Parameter(torch.randn(n_levels, n_prompt, dim) * 0.02)
        self.image_norm, self.text_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.fusion = nn.MultiheadAttention(dim, n_heads, batch_first=True)
        self.decoders = nn.Parameter(torch.zeros(n_levels, dim, dim))
        if n_answers:
            self.answers = nn.Parameter(torch.randn(n_levels, n_answers, dim) * dim**-0.5)

    def forward(self, image: Tensor, text: Tensor, is_text: Tensor, level: int) -> tuple[Tensor, Tensor]:
        """The patches with what they read added, and what they read."""
        prompt = self.prompts[level].expand(len(image), -1, -1)
        words = self.text_norm(torch.cat([prompt, text], dim=1))
        hidden = F.pad(~is_text, (prompt.shape[1], 0))
        read, _ = self.fusion(
            self.image_norm(image), words, words, key_padding_mask=hidden, need_weights=False
        )
        return image + read @ self.decoders[level].T, read


@dataclass(eq=False, repr=False)
class HicaVqa(Adapter):
    """Level prompts and cross-attention from picture to question, at the connector.

    Args:
        level: The level of the question in hand, from 1; may be changed at any time.
        n_levels: Levels, from 1; the paper has 3.
        n_prompt: Learned prompt vectors per level, from 1.
        n_heads: Attention heads; divide the language model's width.
        n_answers: Closed answers per level; 0 for none.
    """

    starts_neutral = True

    level: int = 1
    n_levels: int = 3
    n_prompt: int = 4
    n_heads: int = 4
    n_answers: int = 0

    def __post_init__(self) -> None:
        """No question heard yet."""
        super().__post_init__()
        self.question: tuple[Tensor, Tensor] | None = None
        self.read: Tensor | None = None

    def check(self) -> None:
        """A level that exists."""
        if min(self.n_prompt, self.n_heads) < 1 or not 1 <= self.level <= self.n_levels:
            raise BadInput(
                f"level={self.level} of {self.n_levels}: levels, prompt vectors and heads count from 1."
            )

    def find(self, host: Any) -> Sequence[Site]:
        """The connector."""
        if image_token(getattr(host, "config", None)) is None or not hasattr(host, "get_input_embeddings"):
            raise CannotAttach(
                f"{type(host).__name__} names no image token, so words cannot be told from pictures. Known connectors: "
                f"{', '.join(SEATS)}."
            )
        parent, name, path = seat(host)
        words: Any = host.get_input_embeddings()
        dim = int(words.weight.shape[-1])
        if dim % self.n_heads:
            raise CannotAttach(f"n_heads={self.n_heads} does not divide the width {dim}. Choose a divisor.")
        return [Site(path, parent.get_submodule(name), {"dim": dim})]

    def layer(self, sizes: Sizes) -> nn.Module:
        """Prompts, fusion, decoders."""
        return _Levels(sizes["dim"], self.n_levels, self.n_prompt, self.n_heads, self.n_answers)

    def wire(self, host: Any, site: Site, layer: _Levels) -> Iterator[Handle]:
        """Hear the question, change the picture."""
        token = image_token(host.config)
        words: Any = host.get_input_embeddings()

        def hear(_: nn.Module, __: Any, kwargs: Any) -> None:
            refuse_encoded(kwargs, self.name)
            ids, labels, mask = (kwargs.get(k) for k in ("input_ids", "labels", "attention_mask"))
            self.question, self.read = None, None
            if ids is None:
                return
            is_text = ids != token
            if labels is not None:
                is_text = is_text & (labels == -100)
            if mask is not None and mask.shape == ids.shape:
                is_text = is_text & mask.bool()
            self.question = words(ids).detach(), is_text

        def change(_: nn.Module, __: Any, output: Tensor) -> Tensor:
            if output.dim() not in (2, 3):
                raise BadInput(
                    f"The connector of {type(host).__name__} gives {output.dim()} axes; HiCA-VQA reads rows of "
                    "patches, with or without a batch axis. Use another family."
                )
            image = output if output.dim() == 3 else output[None]
            text, is_text = self._question(image)
            fused, self.read = layer(image, text.to(image), is_text, self.level - 1)
            changed: Tensor = fused if output.dim() == 3 else fused[0]
            return changed

        yield InForward(host)
        yield host.register_forward_pre_hook(hear, with_kwargs=True)
        yield site.module.register_forward_hook(change)

    def _question(self, image: Tensor) -> tuple[Tensor, Tensor]:
        if self.question is None:
            return image.new_zeros(len(image), 0, image.shape[-1]), torch.zeros(
                len(image), 0, dtype=torch.bool, device=image.device
            )
        text, is_text = self.question
        if len(text) not in (1, len(image)):
            raise BadInput(
                f"{len(image)} pictures for {len(text)} questions: each question needs one picture, or give one "
                "question at a time."
            )
        return text.expand(len(image), -1, -1), is_text.expand(len(image), -1)

    def answer_logits(self) -> Float[Tensor, "picture answer"]:
        """Scores of the level's closed answers for the pictures of the latest pass.

        Raises:
            BadInput: There are no closed answers, or no picture was seen.
        """
        if not self.n_answers or self.read is None:
            raise BadInput(
                "No scores: make the adapter with n_answers, and run the model on a picture first."
            )
        answers = next(iter(self.layers.values())).get_parameter("answers")
        return self.read.mean(dim=1) @ answers[self.level - 1].T

    @classmethod
    def tiny(cls) -> Self:
        """Two levels."""
        return cls(n_levels=2, n_prompt=2)
