"""Which layers a method works on, when its paper names layers of a decoder of one depth."""

from vlmtools.errors import BadInput, CannotAttach
from vlmtools.families._probe import Attention
from vlmtools.patches.base import Live, chosen_layers

Layers = tuple[int, ...] | None
"""Layer numbers, negative ones from the end; None takes the paper's."""
PAPER_DEPTH = 32
"""Layers of the 7B decoders that all these papers name their layers for."""


def scaled_layers(first: int, last: int, n_layers: int) -> tuple[int, ...]:
    """The paper's layers at another depth: the same share of the way up, and at least one.

    Args:
        first: The first of them in a decoder of 32 layers.
        last: The last of them, included.
        n_layers: Layers of this decoder.
    """
    start = first * n_layers // PAPER_DEPTH
    stop = -(-(last + 1) * n_layers // PAPER_DEPTH)
    return tuple(range(start, max(stop, start + 1)))


def attention_in(live: Live, wanted: Layers, first: int, last: int) -> tuple[Attention, ...]:
    """The attention modules of the layers asked for.

    Args:
        live: The model; scaling is noted in its status.
        wanted: The user's choice; None takes the paper's.
        first: The paper's first layer of 32.
        last: The paper's last, included.

    Raises:
        BadInput: There is no such layer.
        CannotAttach: None of these layers has attention.
    """
    parts = live.anatomy
    n_layers = len(parts.layers)
    layers = (
        scaled_layers(first, last, n_layers) if wanted is None else chosen_layers(tuple(wanted), n_layers)
    )
    found = tuple(one for one in parts.attention if one.layer in layers)
    if not found:
        having = sorted({one.layer for one in parts.attention})
        raise CannotAttach(
            f"None of the layers {list(layers)} has attention; these have: {having}. Choose among them with layers=(…)."
        )
    if wanted is None:
        _note_scaling(live, layers, first, last)
    return found


def layers_passed(live: Live, wanted: Layers, first: int, last: int) -> tuple[int, ...]:
    """After how many layers to read the stream, counted as in papers on early layers: 0 the embeddings.

    Args:
        live: The model; scaling is noted in its status.
        wanted: The user's choice; None takes the paper's.
        first: The paper's first of 32.
        last: The paper's last, included.

    Raises:
        BadInput: A number is not below the number of layers, which would be the end itself.
    """
    n_layers = len(live.anatomy.layers)
    if wanted is None:
        layers = scaled_layers(first, last, n_layers)
        _note_scaling(live, layers, first, last)
        return layers
    strange = [n for n in wanted if not 0 <= n < n_layers]
    if strange or not wanted:
        raise BadInput(
            f"layers={tuple(wanted)}: earlier layers are 0 (the embeddings) to {n_layers - 1} of {n_layers}. "
            "Name at least one of them."
        )
    return tuple(sorted(set(wanted)))


def _note_scaling(live: Live, layers: tuple[int, ...], first: int, last: int) -> None:
    n_layers = len(live.anatomy.layers)
    if n_layers != PAPER_DEPTH:
        live.status.note(
            f"Layers {layers[0]} to {layers[-1]} of {n_layers}: the paper's {first} to {last} of {PAPER_DEPTH}, "
            "scaled; no measurement supports the choice at this depth."
        )
