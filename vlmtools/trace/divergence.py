"""VHD of every head and T-VHD of every token: how much they depend on the picture."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vlmtools.families._counterfactual import Inputs, Removal, removed
from vlmtools.families._probe import Attention
from vlmtools.families._prompt import State, read_prompt
from vlmtools.families._session import Session
from vlmtools.families._vhd import Distance, drop_outliers, head_divergence, token_divergence
from vlmtools.trace._forced import answer_ids, forced, prepared, require_picture, session_of, whole_prompt
from vlmtools.trace._watch import HeadWatch
from vlmtools.vlm import VLM


@dataclass(frozen=True)
class Options:
    """How divergence is measured where the sources disagree.

    Reference: arXiv:2412.13949, section 3.

    Args:
        distance: `l2` as the paper writes; `sq` for its square.
        outlier_filter: Set heads to 0 that surge when the picture disappears, as VHR does before it chooses.
        sample_std: Standard deviation of that filter with n - 1; the paper does not say which.
        counterfactual: How the picture goes: `drop` its tokens, `mask` them in place, `blank` the pixels, or a function
            from the inputs with to the inputs without.
    """

    distance: Distance = "l2"
    outlier_filter: bool = False
    sample_std: bool = True
    counterfactual: Removal | Callable[[Inputs], Inputs] = "drop"


@dataclass(frozen=True, slots=True, eq=False)
class TokenDivergence:
    """T-VHD of one answer.

    Args:
        ids: Its tokens.
        texts: How each of them reads.
        values: T-VHD of each: how much the picture moved the heads that predicted it.
        heads: VHD of every head behind each token.
    """

    ids: tuple[int, ...]
    texts: tuple[str, ...]
    values: tuple[float, ...]
    heads: Float[Tensor, "token layer head"]


def vhd(vlm: VLM, image: Any, prompt: str, **options: Any) -> Float[Tensor, "layer head"]:
    """How much the output of every head changes at the end of the prompt when the picture goes.

    Two plain passes: the model as it is. VHR chooses during its own pass, in which lower layers are strengthened
    already, so its choice differs; `VHR().select(…)` gives that. Layers without attention have no row. Layers that
    read the picture by cross-attention are skipped without it, so their heads count with their whole output.

    Reference: arXiv:2412.13949, eq. 4.

    Args:
        vlm: The model.
        image: Path, URL or opened picture.
        prompt: The question.
        options: Fields of `Options`.
    """
    return head_divergences(vlm, prepared(vlm, image, prompt), **options)[0, 0]


def t_vhd(
    vlm: VLM, image: Any, prompt: str, answer: str | Sequence[int], *, k: int = 8, **options: Any
) -> TokenDivergence:
    """How much every token of an answer depends on the picture.

    Both streams, with and without the picture, are given the same answer; two passes each, whatever its length.

    Reference: arXiv:2412.13949, section 3.2.

    Args:
        vlm: The model.
        image: Path, URL or opened picture.
        prompt: The question.
        answer: Its text, or better its tokens: text may be cut into other tokens than were generated.
        k: Heads per layer that count, the most divergent ones. The paper leaves it open, re-implementations use 8.
        options: Fields of `Options`.

    Raises:
        BadInput: The answer is empty or holds an image token.
    """
    with session_of(vlm) as session:
        ids = answer_ids(answer, vlm.tokenizer, session.anatomy)
    inputs = prepared(vlm, image, prompt)
    found = head_divergences(vlm, inputs, torch.tensor([ids]), **options)[0]
    values = token_divergence(found.transpose(0, 1), k)
    texts = tuple(str(vlm.tokenizer.decode([one])) for one in ids)
    return TokenDivergence(tuple(ids), texts, tuple(values.tolist()), found)


def head_divergences(
    target: Any, inputs: Inputs, answer: Int[Tensor, "batch token"] | None = None, **options: Any
) -> Float[Tensor, "batch token layer head"]:
    """VHD of every head behind every token of an answer, for prepared inputs: batches, several pictures.

    Args:
        target: A `VLM` or a loaded model.
        inputs: What the processor gives, padded on the left.
        answer: Tokens that follow; None measures the end of the prompt alone.
        options: Fields of `Options`.

    Raises:
        BadInput: A setting does not fit, or there is no picture.
    """
    how = Options(**options)
    with session_of(target) as session:
        parts = session.anatomy
        whole = whole_prompt(inputs, parts)
        prompt = read_prompt(dict(inputs), parts)
        assert prompt is not None  # noqa: S101 - whole_prompt saw input_ids
        require_picture(prompt, parts)
        text = removed(how.counterfactual, prompt, parts, session.tokenizer)
        # without an answer only the prompt's end is read, whatever the token
        tokens = whole["input_ids"][:, :1] if answer is None else answer.to(whole["input_ids"].device)
        full = _heads(session, whole, tokens, State())
        bare = _heads(session, text, tokens, State(read_prompt(text, parts), side=True, fresh=True))
        found = [_layer(full, bare, one.name, how) for one in parts.attention]
    return torch.stack(found, 2)


def _layer(full: dict[str, Tensor], bare: dict[str, Tensor], name: str, how: Options) -> Tensor:
    text = bare.get(name)  # cross-attention is skipped without a picture
    text = torch.zeros_like(full[name]) if text is None else text
    found = head_divergence(full[name], text, how.distance)
    return drop_outliers(found, text, how.sample_std) if how.outlier_filter else found


def _heads(session: Session, inputs: Inputs, answer: Tensor, state: State) -> dict[str, Tensor]:
    """Head outputs behind every token: name of the module → (batch, token, head, width)."""
    kept: dict[str, list[Tensor]] = {}

    def keep(attention: Attention, rows: Tensor) -> None:
        kept.setdefault(attention.name, []).append(rows.float().cpu())

    # only this stream: an attached method may run passes of its own inside it
    handles = list(HeadWatch(session, lambda current: current is state, keep).install())
    try:
        forced(session, inputs, answer, state)
    finally:
        for handle in handles:
            handle.remove()
    return {name: torch.cat(rows, 1) for name, rows in kept.items()}
