"""What a token pruner is: a training-free method that lets the language model read only some tokens of a picture.

    with HiPrune(keep=0.333).attach(vlm):
        vlm.answer("beach.jpg", "How many boats are there?")

A method is a pure function on tensors of one view (a picture, a tile of it, or a frame of a video) and a thin frozen
dataclass that says what the function needs and calls it. Encoding, scores, packing and positions are the seam's work.
"""

import itertools
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from jaxtyping import Float, Int
from torch import Tensor

from vlmtools.errors import BadInput
from vlmtools.patches.base import Attached, Handle, Live, Patch
from vlmtools.pruning._needs import Needs as Needs
from vlmtools.pruning._needs import Tower as Tower

Positions = Literal["auto", "original", "renumber"]
"""Where kept tokens say they are: where they were, or one after the other."""

Per = Literal["view", "picture"]
"""What a budget is for: every view by itself, or all views of a picture together."""


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """One view: what there is to decide from. Tokens are in raster order; line ends and separators are left out.

    Everything of the tower has been carried through the model's own packing to one row per image token: a pixel shuffle
    or merge averages the patches of a token, windows are put back in order, padding is cut. Tensors are float32 except
    `features` and `text`, which keep the model's type. Layers are keys as `needs` wrote them.

    Args:
        features: Connector output, what the language model would read.
        grid: (height, width) of the view in tokens; height × width is the number of tokens.
        received: Layer → attention that a token's patches receive, a mean over heads and all queries of the view (class
            token included). Sums to at most 1; multiply by the number of queries for sums.
        class_attention: Layer → attention of the class token to a token's patches, a mean over heads.
        keys: Layer → keys after rotary embedding, if any.
        patches: Tower features in front of the connector; None unless asked for.
        text: Embeddings of the prompt's real tokens that are no image tokens; None unless asked for.
        n_queries: Queries that the means in `received` are taken over, class token included; 0 unless asked for these.
        kind: `image` or `video`.
        row: Prompt of the batch the view belongs to.
        index: Number of the view within the call.
        tower: Where it was seen.
    """

    features: Float[Tensor, "token dim"]
    grid: tuple[int, int]
    received: Mapping[int, Float[Tensor, "token"]] = field(default_factory=dict)
    class_attention: Mapping[int, Float[Tensor, "token"]] = field(default_factory=dict)
    keys: Mapping[int, Float[Tensor, "token head width"]] = field(default_factory=dict)
    patches: Float[Tensor, "token patch_dim"] | None = None
    text: Float[Tensor, "word dim"] | None = None
    n_queries: int = 0
    kind: str = "image"
    row: int = 0
    index: int = 0
    tower: Tower = field(default_factory=Tower)

    @property
    def n_tokens(self) -> int:
        """Tokens of the view."""
        return self.features.shape[0]


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """What a method decided for one view. Kept and merged tokens together are at most as many as were asked for.

    Args:
        kept: Indices of tokens whose features are handed on as they are: ascending, none twice.
        kinds: Why tokens were kept, for pictures and reports: name (anchor, buffer, register, diverse, …) → indices.
        merged: Features of further tokens made from several; they follow the view's kept tokens. None for none.
        merged_at: Index, not among `kept`, whose position each merged token takes; needed with `merged`.
    """

    kept: Int[Tensor, "kept"]
    kinds: Mapping[str, Int[Tensor, "some"]] = field(default_factory=dict)
    merged: Float[Tensor, "merged dim"] | None = None
    merged_at: Int[Tensor, "merged"] | None = None

    @property
    def n_tokens(self) -> int:
        """Tokens the language model will read."""
        return len(self.kept) + (0 if self.merged is None else len(self.merged))


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """One view of the last pruned call, for overlays and reports.

    Args:
        row: Prompt of the batch.
        kind: `image` or `video`.
        grid: (height, width) in tokens.
        selection: What was kept.
    """

    row: int
    kind: str
    grid: tuple[int, int]
    selection: Selection


@dataclass(frozen=True, slots=True)
class Report:
    """What happened in the last pruned call.

    Args:
        views: Every picture, tile or frame.
        n_before: Visual tokens of the whole batch before, line ends and separators included.
        n_after: Visual tokens after.
        length_before: Length of the padded prompt before.
        length_after: Length after.
    """

    views: tuple[View, ...] = ()
    n_before: int = 0
    n_after: int = 0
    length_before: int = 0
    length_after: int = 0


@dataclass(frozen=True)
class TokenPruner(Patch):
    """A method that keeps some visual tokens. Subclass it as a frozen dataclass, one per file, and write `select`.

    `generate` gives back the original prompt followed by the new tokens; the cache holds the short prompt only. A plain
    call of the model is shortened too, and its logits are those of the short sequence.

    Args:
        keep: Share in (0, 1] of every view, or, as a whole number, tokens per view (a picture, a tile, or a frame).
            1.0 is neutral; at least one token of every view stays.
        positions: `original` keeps the positions the tokens had, `renumber` counts on without gaps; `auto` is
            `original` for models with three-axis positions and `renumber` for others.
        per: `view`, or `picture`: `keep` is for all tiles of a picture (all frames of a video) together, shared out in
            proportion to their tokens. The same for models that see a picture whole.
    """

    keep: float | int = 1.0
    positions: Positions = "auto"
    per: Per = "view"

    @abstractmethod
    def select(self, seen: Seen, n_keep: int) -> Selection:
        """Decide for one view. Called without gradient, never for a view that would stay whole.

        Args:
            seen: What was asked for in `needs`, and the connector's output.
            n_keep: Tokens to keep: 1 to `seen.n_tokens` - 1.
        """

    def needs(self, tower: Tower) -> Needs:
        """What `select` wants to see; nothing but the connector's output unless a method says more.

        Args:
            tower: The model's vision tower.

        Raises:
            CannotAttach: The method cannot work with this tower.
        """
        return Needs()

    def budget(self, n_tokens: int) -> int:
        """Tokens to keep of a view, from 1 to all of them.

        Args:
            n_tokens: Tokens of the view.
        """
        wanted = round(self.keep * n_tokens) if self._is_share else int(self.keep)
        return max(1, min(n_tokens, wanted))

    def budgets(self, n_tokens: Sequence[int]) -> list[int]:
        """Tokens to keep of every view of one picture, from 1 to all of them.

        Args:
            n_tokens: Tokens of the views, each at least 1.
        """
        if self.per == "view":
            return [self.budget(n) for n in n_tokens]
        spare = max(0, self.budget(sum(n_tokens)) - len(n_tokens))  # one token of every view stays anyway
        ends = [0, *itertools.accumulate(n - 1 for n in n_tokens)]
        shared = [round(spare * end / max(1, ends[-1])) for end in ends]
        return [1 + stop - start for start, stop in itertools.pairwise(shared)]

    @property
    def _is_share(self) -> bool:
        """Text gives counts as floats too: 64.0 is 64 tokens, and 1.0 everything."""
        return isinstance(self.keep, float) and self.keep <= 1

    @property
    def is_neutral(self) -> bool:
        """Whether everything is kept whatever the picture."""
        return isinstance(self.keep, float) and self.keep == 1.0

    @classmethod
    def neutral(cls) -> Self:
        """Every token."""
        return cls(keep=1.0)

    @classmethod
    def tiny(cls) -> Self:
        """Half of the tokens."""
        return cls(keep=0.5)

    def attach(self, target: Any) -> "Pruned":
        """Switch the method on; every later call with pictures is shortened until it is removed.

        Args:
            target: A `VLM`, or any loaded Hugging Face model that generates text from pictures.

        Raises:
            CannotAttach: The model takes no encoded pictures, its tower cannot be listened to, or another pruner is on.
            BadInput: `keep` is out of range.
        """
        self._check()
        on = super().attach(target)
        return Pruned(on.live, on._stack)

    def hooks(self, live: Live) -> Iterator[Handle]:
        """The seam: one wrapper of `generate`, one hook in front of the model, one listener per needed layer."""
        from vlmtools.pruning._seam import Seam

        yield from Seam(self, live).install()

    def _check(self) -> None:
        if self.per not in ("view", "picture"):
            raise BadInput(
                f"{self.name}: per={self.per!r} is neither view (every tile or frame by itself) nor picture (all of "
                "them together). Choose one."
            )
        whole = not isinstance(self.keep, float) or self.keep.is_integer()
        good = 0 < self.keep <= 1 if self._is_share else self.keep >= 1 and whole
        if isinstance(self.keep, bool) or not good:
            raise BadInput(
                f"{self.name}: keep={self.keep!r} is neither a share above 0 and up to 1.0 nor a whole number of "
                "tokens from 1. Write keep=0.33 for a third of every view, or keep=192 for 192 tokens of each."
            )


class Pruned(Attached):
    """A pruner that is on: a `with` block, or `remove()`; `report()` says what the last call kept."""

    def report(self) -> Report:
        """Views, indices and counts of the last pruned call; empty before the first."""
        from vlmtools.pruning._seam import last_report

        return last_report(self.live)
