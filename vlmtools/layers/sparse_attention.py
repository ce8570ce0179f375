"""Sparse attention with a predicted mask: a cheap low-rank guess decides which pairs are computed."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn


class Sparse(NamedTuple):
    """What one layer computed.

    Args:
        x: The attended tokens.
        basis_coef: How much each token uses each basis row of the guess.
        approx_attn: The guess.
        attn_mask: 1 where a pair is computed; the row of the class token is full.
        masked_attn: The attention that was used.
        unmasked_attn: The attention that a full layer would have used.
        token_mask: Which patches the next layers should keep; None when none were ever dropped.
    """

    x: Float[Tensor, "batch token dim"]
    basis_coef: Float[Tensor, "batch head patch basis"]
    approx_attn: Float[Tensor, "batch head patch token"]
    attn_mask: Float[Tensor, "batch head token token"]
    masked_attn: Float[Tensor, "batch head token token"]
    unmasked_attn: Float[Tensor, "batch head token token"]
    token_mask: Bool[Tensor, "batch patch"] | None


class MaskPredictor(nn.Module):
    """Guesses attention from shortened queries and keys and a fixed basis of rows.

    Args:
        dim: Channels.
        num_tokens: Tokens, the class token among them; fixed.
        num_heads: Heads.
        attn_keep_rate: Share of keys that each query keeps, in (0, 1].
        reduce_n_factor: How many times fewer basis rows than tokens there are.
        reduce_c_factor: How many times shorter queries and keys become.
        basis_threshold: Entries of the basis up to this size count as 0.
        coef_threshold: Coefficients up to this size count as 0; 0 keeps all.
        coef_topk: Keep this many coefficients instead; 0 for the threshold.
        score_threshold: Keep pairs whose guess is above this instead of a share; None for the share.
        prune_rows: Dropped tokens ask nothing.

    Reference: arXiv:2303.13755
    """

    def __init__(
        self,
        dim: int,
        num_tokens: int,
        num_heads: int = 8,
        attn_keep_rate: float = 0.25,
        reduce_n_factor: int = 8,
        reduce_c_factor: int = 2,
        basis_threshold: float = 0.02,
        coef_threshold: float = 0.05,
        coef_topk: int = 0,
        score_threshold: float | None = None,
        prune_rows: bool = True,
    ) -> None:
        super().__init__()
        width = dim // num_heads
        # the published code divides by the root of the number of heads, not of channels
        self.scale = num_heads**-0.5
        self.n_kept = math.ceil(attn_keep_rate * num_tokens)
        self.basis_threshold, self.coef_threshold = basis_threshold, coef_threshold
        self.coef_topk, self.score_threshold, self.prune_rows = coef_topk, score_threshold, prune_rows
        self.proj_c_q = nn.Linear(width, width // reduce_c_factor)
        self.proj_c_k = nn.Linear(width, width // reduce_c_factor)
        shape = (num_tokens, num_tokens // reduce_n_factor)
        self.proj_n = nn.Parameter(nn.init.trunc_normal_(torch.empty(shape), std=0.02))
        self.proj_back_n = nn.Parameter(nn.init.trunc_normal_(torch.empty(shape), std=0.02))

    def guess(
        self, q: Tensor, k: Tensor, token_mask: Tensor | None = None
    ) -> tuple[Float[Tensor, "batch head patch basis"], Float[Tensor, "batch head patch token"]]:
        """Coefficients of the basis and the guessed attention, without the class token's row.

        Args:
            q: Queries.
            k: Keys.
            token_mask: Patches that are left; None for all.
        """
        q, k = silence(self.proj_c_q(q), token_mask), silence(self.proj_c_k(k), token_mask)
        cheap = (q @ (k.transpose(-2, -1) @ self.proj_n)) * self.scale
        coef = cheap[..., 1:, :].softmax(-1)
        if self.coef_topk:
            best = coef.topk(self.coef_topk, sorted=False)
            coef = torch.zeros_like(coef).scatter(-1, best.indices, best.values)
        elif self.coef_threshold > 0:
            coef = coef * (coef > self.coef_threshold)
        basis = self.proj_back_n.T.abs()
        return coef, coef @ (basis * (basis > self.basis_threshold))

    @torch.no_grad()
    def mask(
        self, approx: Float[Tensor, "batch head patch token"], token_mask: Tensor | None = None
    ) -> Float[Tensor, "batch head token token"]:
        """1 where a pair is to be computed.

        Args:
            approx: The guess.
            token_mask: Patches that are left; None for all.
        """
        score, n_kept = approx.clone(), self.n_kept
        if token_mask is not None:
            score[..., 1:] = score[..., 1:].masked_fill(~token_mask[:, None, None, :], float("-inf"))
            n_kept = min(n_kept, int(token_mask[0].sum()))
        if self.score_threshold is None:
            best = score.topk(n_kept, sorted=False).indices
            mask = torch.zeros_like(score).scatter_(-1, best, 1.0)
        else:
            mask = (score > self.score_threshold).to(score.dtype)
        if token_mask is not None and self.prune_rows:
            mask = mask * token_mask[:, None, :, None]
        return torch.cat([torch.ones_like(mask[..., :1, :]), mask], dim=-2)


class SparseAttention(nn.Module):
    """Attention over the pairs that the predictor chose.

    Args:
        dim: Channels; must divide by `num_heads`.
        num_tokens: Tokens, the class token among them; fixed.
        num_heads: Heads.
        attn_keep_rate: Share of keys that each query keeps, in (0, 1].
        token_keep_rate: Share of patches kept by this layer, when it drops any.
        token_pruning_this_layer: Drop patches that the class token ignores.
        reduce_n_factor: See `MaskPredictor`.
        reduce_c_factor: See `MaskPredictor`.
        qkv_bias: Biases in the projections.
        predictor: Further arguments of `MaskPredictor`.

    Reference: arXiv:2303.13755
    """

    def __init__(
        self,
        dim: int,
        num_tokens: int,
        num_heads: int = 8,
        attn_keep_rate: float = 0.25,
        token_keep_rate: float = 0.5,
        token_pruning_this_layer: bool = False,
        reduce_n_factor: int = 8,
        reduce_c_factor: int = 2,
        qkv_bias: bool = False,
        **predictor: float,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv, self.proj = nn.Linear(dim, 3 * dim, bias=qkv_bias), nn.Linear(dim, dim)
        self.mask_predictor = MaskPredictor(
            dim, num_tokens, num_heads, attn_keep_rate, reduce_n_factor, reduce_c_factor,
            **predictor,  # type: ignore[arg-type]
        )  # fmt: skip
        self.prunes, self.n_patches_kept = (
            token_pruning_this_layer,
            math.ceil(token_keep_rate * (num_tokens - 1)),
        )

    def forward(
        self, x: Float[Tensor, "batch token dim"], token_mask: Bool[Tensor, "batch patch"] | None = None
    ) -> Sparse:
        """The attended tokens, with everything on the way.

        Args:
            x: Tokens, class token first.
            token_mask: Patches that are left; None for all.
        """
        batch, n_tokens, _ = x.shape
        qkv = self.qkv(x).reshape(batch, n_tokens, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = (silence(one, token_mask) for one in qkv)
        coef, approx = self.mask_predictor.guess(q, k, token_mask)
        mask = self.mask_predictor.mask(approx, token_mask)
        scores = (q @ k.transpose(-2, -1)) * q.shape[-1] ** -0.5
        weights = scores.masked_fill(mask == 0, float("-inf")).softmax(-1).nan_to_num()
        out = self.proj((weights @ v).transpose(1, 2).reshape(x.shape))
        kept = self._kept(weights, token_mask) if self.prunes else token_mask
        return Sparse(out, coef, approx, mask, weights, scores.softmax(-1), kept)

    @torch.no_grad()
    def _kept(self, weights: Tensor, token_mask: Tensor | None) -> Tensor:
        score = weights[:, :, 0, 1:].mean(1)
        if token_mask is not None:
            score = score.masked_fill(~token_mask, float("-inf"))
        best = score.topk(self.n_patches_kept, sorted=False).indices
        return torch.zeros_like(score, dtype=torch.bool).scatter_(-1, best, True)


def silence(
    tokens: Float[Tensor, "batch head token dim"], token_mask: Bool[Tensor, "batch patch"] | None
) -> Float[Tensor, "batch head token dim"]:
    """Set dropped patches to 0; the class token stays.

    Args:
        tokens: Class token first.
        token_mask: Patches that are left; None for all.
    """
    if token_mask is None:
        return tokens
    left = torch.cat([torch.ones_like(token_mask[:, :1]), token_mask], dim=1)
    return tokens * left[:, None, :, None]
