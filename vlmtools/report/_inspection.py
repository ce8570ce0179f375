"""Look at one answer: where the model looked, which heads the picture moves, which words depend on it."""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmtools.report._inspect_grid import MOST_CELLS, Grid, find_grid, run_lengths
from vlmtools.report._kept import Kept, kept_of
from vlmtools.report._model_picture import as_seen
from vlmtools.report.media import Picture

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from vlmtools.pruning.base import TokenPruner
    from vlmtools.vlm import VLM


@dataclass(frozen=True)
class Word:
    """One word of an answer.

    Args:
        text: As written, blanks in front included.
        value: T-VHD, the mean over its tokens.
        n_tokens: How many those are.
    """

    text: str = ""
    value: float = 0.0
    n_tokens: int = 1


@dataclass(frozen=True)
class Inspection:
    """What is known of one answer.

    Args:
        model: Its name.
        prompt: The question.
        words: The answer.
        layers: The layer of every row of the maps below.
        vhd: Divergence of every head at the end of the prompt.
        mass: Share of its attention every head gives the picture, the mean over all steps.
        chosen: Row of the maps → the heads that VHR would strengthen; None when that was not asked or not possible.
        picture: As the model sees it.
        grid: Where its pieces lie.
        maps: Attention over the grid, one byte a cell, each scaled to its own largest cell: all heads of all layers
            together; then for every layer its heads together and one by one; then for every word all heads together.
        notes: What could not be shown.
        record: How it was made.
        kept: What pruning keeps; None when that was not asked. Everything else is about the whole prompt.
    """

    model: str = ""
    prompt: str = ""
    words: tuple[Word, ...] = ()
    layers: tuple[int, ...] = ()
    vhd: tuple[tuple[float, ...], ...] = ()
    mass: tuple[tuple[float, ...], ...] = ()
    chosen: tuple[tuple[int, ...], ...] | None = None
    picture: Picture = field(default_factory=Picture)
    grid: Grid = field(default_factory=Grid)
    maps: bytes = b""
    notes: tuple[str, ...] = ()
    record: Mapping[str, Any] = field(default_factory=dict)
    kept: Kept | None = None

    @property
    def answer(self) -> str:
        """The text."""
        return "".join(word.text for word in self.words).strip()

    @property
    def n_heads(self) -> int:
        """Of a layer."""
        return len(self.vhd[0]) if self.vhd else 0


def look(
    vlm: "VLM",
    image: "str | Path | Image",
    prompt: str,
    *,
    max_new_tokens: int = 48,
    heads: str | None = "vhr",
    k: int = 8,
    record: Mapping[str, Any] | None = None,
    prune: "TokenPruner | None" = None,
    **options: Any,
) -> Inspection:
    """Ask one question, greedily, and gather everything the page shows.

    Args:
        vlm: The model.
        image: Path, URL or opened picture.
        prompt: The question.
        max_new_tokens: Length limit of the answer.
        heads: `vhr` shows the heads that method would strengthen; None does not ask.
        k: Heads per layer that count for T-VHD.
        record: How it is made, shown at the end of the page.
        prune: Ask a second time with this pruner and show what it keeps.
        options: Fields of `trace.Options`.
    """
    from vlmtools.media import load_image
    from vlmtools.trace import Trace, t_vhd

    opened = load_image(image, allow_urls=vlm.allow_urls)
    batch = vlm.inputs([vlm.chat(prompt, True)], [opened])
    kept = None if prune is None else _kept(vlm, batch, prune, max_new_tokens)
    with Trace(vlm, attention=True, picture=True) as seen:
        ids = _said(vlm, batch, max_new_tokens)
    found = t_vhd(vlm, opened, prompt, ids, k=k, **options)
    chosen, why = _chosen(vlm, batch, heads, seen.layers)
    grid = _grid(vlm, seen.prompt, batch)
    words, members = _words(vlm.tokenizer, found.ids, found.values)
    return Inspection(
        model=vlm.name,
        prompt=prompt,
        words=words,
        layers=seen.layers,
        vhd=_rows(found.heads[0]),
        mass=_rows(seen.mass[:, 0].mean(1)),
        chosen=chosen,
        picture=as_seen(vlm, opened, batch),
        grid=_pooled_grid(grid),
        maps=_maps(seen.last.picture[:, 0], grid, members) if grid else b"",
        notes=tuple(one for one in (grid.note, why, _cross_note(seen.cross)) if one),
        record=record or {},
        kept=kept,
    )


def _kept(vlm: "VLM", batch: Any, prune: "TokenPruner", max_new_tokens: int) -> Kept:
    from vlmtools.pruning._spec import as_text

    with prune.attach(vlm) as on:
        ids = _said(vlm, batch, max_new_tokens)
        report = on.report()
    answer = str(vlm.tokenizer.decode(ids, skip_special_tokens=True)).strip()
    kind = str(getattr(vlm.model.config, "model_type", ""))
    return kept_of(report, kind, as_text(prune), answer)


def _said(vlm: "VLM", batch: Any, max_new_tokens: int) -> list[int]:
    from vlmtools.decoding import cut, new_tokens

    ends = vlm.model.generation_config.eos_token_id
    ends = vlm.tokenizer.eos_token_id if ends is None else ends
    several = [int(one) for one in (ends if isinstance(ends, list | tuple) else [ends]) if one is not None]
    plain = {
        "do_sample": False,
        "num_beams": 1,
        "repetition_penalty": 1.0,
        "no_repeat_ngram_size": 0,
        "min_length": 0,
    }
    out = vlm.model.generate(
        **batch, **plain, max_new_tokens=max_new_tokens, pad_token_id=vlm.tokenizer.pad_token_id
    )
    ids = cut(new_tokens(out, batch["input_ids"])[0], several, max_new_tokens)
    return [one for one in ids if one not in several] or ids


def _chosen(
    vlm: "VLM", batch: Any, heads: str | None, layers: Sequence[int]
) -> tuple[tuple[tuple[int, ...], ...] | None, str]:
    from vlmtools.errors import BadInput, VlmToolsError

    if heads is None:
        return None, ""
    if heads != "vhr":
        raise BadInput(
            f"Heads chosen by {heads!r} cannot be shown. Only vhr chooses heads by prompt: --heads vhr."
        )
    from vlmtools.patches.vhr import VHR

    try:
        found = VHR().select(vlm, dict(batch))
    except VlmToolsError as problem:
        return None, f"VHR cannot choose heads here: {problem}"
    empty: list[int] = []
    rows = [found[layer][0].nonzero()[:, 0].tolist() if layer in found else empty for layer in layers]
    return tuple(tuple(row) for row in rows), ""


def _cross_note(cross: Sequence[bool]) -> str:
    return (
        "Layers of cross-attention see nothing but the picture: their heads give it all their attention, and their "
        "divergence is their whole output."
        if any(cross)
        else ""
    )


def _grid(vlm: "VLM", prompt: Any, batch: Any) -> Grid:
    kind = str(getattr(vlm.model.config, "model_type", ""))
    return find_grid(kind, run_lengths(prompt.image[0].tolist()), batch, vlm.model.config)


def _words(
    tokenizer: Any, ids: Sequence[int], values: Sequence[float]
) -> tuple[tuple[Word, ...], list[list[int]]]:
    """Tokens joined to words at blanks, and which tokens each word is made of."""
    texts: list[str] = []
    members: list[list[int]] = []
    before = ""
    for place in range(len(ids)):
        now = str(tokenizer.decode(list(ids[: place + 1]), clean_up_tokenization_spaces=False))
        piece, before = now[len(before) :] if now.startswith(before) else now[len(now.rstrip("�")) :], now
        if not texts or piece[:1].isspace() or _stands_alone(piece[:1]):
            texts.append(piece)
            members.append([place])
        else:
            texts[-1] += piece
            members[-1].append(place)
    means = [sum(values[i] for i in group) / len(group) for group in members]
    words = zip(texts, means, members, strict=True)
    return tuple(Word(text, mean, len(group)) for text, mean, group in words), members


def _stands_alone(sign: str) -> bool:
    """Writing without blanks: every token is a word."""
    return unicodedata.east_asian_width(sign) in ("W", "F") if sign else False


def _rows(values: "Tensor") -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(row) for row in values.tolist())


def _maps(weights: "Tensor", grid: Grid, members: Sequence[Sequence[int]]) -> bytes:
    """Every map as bytes: weights are (layer, step, head, piece)."""
    import torch

    shown = weights[..., grid.first : grid.first + grid.n_cells]
    by_head = shown.mean(1)
    by_layer = torch.cat([by_head.mean(1, keepdim=True), by_head], 1).flatten(0, 1)
    n_steps = shown.shape[1]
    by_word = [shown[:, [min(i, n_steps - 1) for i in group]].mean((0, 1, 2)) for group in members]
    every = torch.cat([by_head.mean((0, 1))[None], by_layer, torch.stack(by_word)])
    every = _pooled(every, grid)
    # the root makes faint pieces visible beside the few that draw most attention
    scaled = (every / every.amax(-1, keepdim=True).clamp(min=1e-12)).sqrt()
    return bytes((scaled * 255).round().to(torch.uint8).flatten().tolist())


def _pool_size(grid: Grid) -> int:
    size = 1
    while -(-grid.rows // size) * -(-grid.columns // size) > MOST_CELLS:
        size += 1
    return size


def _pooled_grid(grid: Grid) -> Grid:
    size = _pool_size(grid)
    return Grid(-(-grid.rows // size), -(-grid.columns // size), grid.first, grid.note)


def _pooled(maps: "Tensor", grid: Grid) -> "Tensor":
    from torch.nn.functional import avg_pool2d

    size = _pool_size(grid)
    if size == 1:
        return maps
    square = maps.reshape(len(maps), 1, grid.rows, grid.columns)
    found: Tensor = avg_pool2d(square, size, ceil_mode=True, count_include_pad=False)
    return found.flatten(1)
