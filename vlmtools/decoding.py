"""Draw every row of a batch with its own noise, so that an answer does not depend on its neighbours.

Hugging Face `generate` draws a whole batch from one global random state: the same request would be answered
differently depending on which others share its batch, and a resumed run would not repeat an interrupted one.
Here each row adds Gumbel noise that is a pure function of (key of the row, step, token) and takes the largest
score, which is an exact draw from the softmax. What remains of the batch is floating-point noise in the
logits.

Reference: Gumbel-max trick, arXiv:1411.0030, section 2.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vlmtools.types import Request

N_FIRST_TOKENS = 20
"""How many likely first tokens are reported, as many as servers give."""


def row_key(request: Request) -> int:
    """A 63-bit number decided by seed, draw, item and prompt alone."""
    parts = (str(request.decoding.seed), str(request.draw), request.sample.id, request.sample.prompt)
    digest = hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def gumbel(keys: Int[Tensor, "batch"], step: int, n_tokens: int) -> Float[Tensor, "batch vocab"]:
    """Standard Gumbel noise for one step, in float64, equal on every device.

    Args:
        keys: One number per row.
        step: Position among the new tokens, from 0.
        n_tokens: Size of the vocabulary.
    """
    rows = _mix(_mix(keys) + step)
    tokens = torch.arange(n_tokens, device=keys.device, dtype=torch.int64)
    bits = _mix(rows[:, None] + tokens * _GOLDEN) >> 11 & (1 << 53) - 1
    uniform = (bits.double() + 0.5) * 2.0**-53
    return -torch.log(-torch.log(uniform))


def warp(
    logits: Float[Tensor, "batch vocab"],
    temperature: Float[Tensor, "batch"],
    top_p: Float[Tensor, "batch"],
) -> Float[Tensor, "batch vocab"]:
    """Divide by the temperature and drop the tail outside the nucleus.

    Args:
        logits: Scores of the next token.
        temperature: Above 0; 1 leaves the scores alone.
        top_p: Kept probability in (0, 1]; 1 keeps everything. The most likely token always stays.
    """
    scaled = logits / temperature[:, None]
    if bool((top_p >= 1).all()):
        return scaled
    ordered, order = scaled.sort(dim=-1, descending=True, stable=True)
    probability = ordered.softmax(-1)
    before = probability.cumsum(-1) - probability
    outside = (before >= top_p[:, None]) & (top_p < 1)[:, None]
    outside[:, 0] = False
    return scaled.masked_fill(torch.zeros_like(outside).scatter(1, order, outside), -math.inf)


class RowSampler:
    """Logits processor: turns greedy `generate` into a greedy or random draw of its own for every row.

    Args:
        requests: The rows of the batch, in order.
    """

    def __init__(self, requests: Sequence[Request]) -> None:
        self.keys = torch.tensor([row_key(request) for request in requests], dtype=torch.int64)
        decodings = [request.decoding for request in requests]
        self.temperature = torch.tensor([one.temperature for one in decodings], dtype=torch.float64)
        self.top_p = torch.tensor([one.top_p for one in decodings], dtype=torch.float64)
        self.wants_first = any(request.first_token for request in requests)
        self.first: Tensor | None = None
        self.step = 0

    def __call__(
        self, input_ids: Int[Tensor, "batch seq"], scores: Float[Tensor, "batch vocab"]
    ) -> Float[Tensor, "batch vocab"]:
        """Scores whose largest entry is the drawn token."""
        if self.step == 0 and self.wants_first:
            self.first = scores.detach().float().softmax(-1).cpu()
        drawn = self.temperature > 0
        result = self._drawn(scores, drawn) if bool(drawn.any()) else scores
        self.step += 1
        return result

    def _drawn(self, scores: Tensor, drawn: Tensor) -> Tensor:
        # MPS has no float64
        device = torch.device("cpu") if scores.device.type == "mps" else scores.device
        rows = drawn.nonzero()[:, 0]
        picked = scores[rows.to(scores.device)].to(device).double()
        noise = gumbel(self.keys[rows].to(device), self.step, scores.shape[-1])
        noisy = warp(picked, self.temperature[rows].to(device), self.top_p[rows].to(device)) + noise
        result = scores.clone().float()
        result[rows.to(scores.device)] = noisy.to(result.device, result.dtype)
        return result


def likely_tokens(
    probability: Float[Tensor, "vocab"], texts: Sequence[str], ids: Sequence[int]
) -> Mapping[str, float]:
    """Text → probability, adding up different tokens that read the same.

    Args:
        probability: Of every token.
        texts: What the tokens in `ids` read.
        ids: The tokens to report.
    """
    summed: dict[str, float] = {}
    for token, text in zip(ids, texts, strict=True):
        summed[text] = min(1.0, summed.get(text, 0.0) + float(probability[token]))
    return summed


def new_tokens(output: Tensor, prompt: Tensor) -> list[list[int]]:
    """What was written: models fed with embeddings return it alone, the others after the prompt."""
    n = prompt.shape[1]
    if output.shape[1] >= n and bool((output[:, :n] == prompt).all()):
        output = output[:, n:]
    rows: list[list[int]] = output.tolist()
    return rows


def cut(ids: list[int], ends: Sequence[int], limit: int) -> list[int]:
    """Up to and including the first end token, and never longer than asked."""
    stop = next((i + 1 for i, token in enumerate(ids) if token in ends), len(ids))
    return ids[: min(stop, limit)]


_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed number: the increment of SplitMix64


def _mix(x: Int[Tensor, "..."]) -> Int[Tensor, "..."]:
    """SplitMix64, whose products wrap around as signed 64-bit numbers do in torch."""
    x = x + _GOLDEN
    x = (x ^ (x >> 30 & (1 << 34) - 1)) * -4658895280553007687  # 0xBF58476D1CE4E5B9
    x = (x ^ (x >> 27 & (1 << 37) - 1)) * -7723592293110705685  # 0x94D049BB133111EB
    return x ^ (x >> 31 & (1 << 33) - 1)
