"""VHR: strengthen the attention heads whose output depends on the picture."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vlmtools.errors import BadInput
from vlmtools.families._counterfactual import Removal, for_forward, removed
from vlmtools.families._probe import Anatomy, Attention
from vlmtools.families._prompt import Prompt, State, read_prompt
from vlmtools.families._vhd import Distance, above_median, drop_outliers, head_divergence
from vlmtools.patches._head_gain import HeadGain, fold_heads
from vlmtools.patches.base import Attached, Handle, Inputs, Live, Patch

Heads = Mapping[int, tuple[int, ...]]
"""Layer → heads."""


@dataclass(frozen=True)
class VHR(Patch):
    """Vision-aware head reinforcement: double the output of the half of each layer's heads that the picture moves most.

    A pass without picture comes first; then, inside the real prefill, every layer in turn compares its head outputs at
    the last prompt position, chooses its heads and strengthens them, so that higher layers see what lower ones did.
    The heads stay the same until the next prompt. All options the sources disagree on are fields.

    Reference: arXiv:2412.13949, section 4. Follows the paper; the authors' own code was not available to compare.

    Args:
        strength: Factor on the chosen heads, from 0 up; 1 is neutral, the paper uses 2, at 4 its model broke down.
        second_layer: Work on the second attention layer; None does what the paper did for the family.
        last_layers: Work on that many last attention layers; None is 14, and 18 for InstructBLIP, as in the paper.
        outlier_filter: Leave out heads that surge when the picture disappears.
        distance: `l2` as the paper writes; `sq` changes which heads the filter drops.
        sample_std: Standard deviation of the filter with n - 1.
        reinforce_counterfactual: Strengthen the lower layers of the picture-less pass too; one such pass per layer.
        counterfactual: How the picture goes: `drop` its tokens, `mask` them in place, `blank` the pixels, or a function
            from the inputs with to the inputs without.
        heads: Use these heads for every prompt instead of choosing; much weaker in the paper.
    """

    strength: float = 2.0
    second_layer: bool | None = None
    last_layers: int | None = None
    outlier_filter: bool = True
    distance: Distance = "l2"
    sample_std: bool = True
    reinforce_counterfactual: bool = False
    counterfactual: Removal | Callable[[Inputs], Inputs] = "drop"
    heads: Heads | None = None

    def hooks(self, live: Live) -> Iterator[Handle]:
        """One hook per layer, and a look at every new prompt."""
        run = _Reinforcement(self, live)
        live.status.tokens = "every prompt position and every new token"
        for attention in run.attention:
            gain = HeadGain(attention, live.session)
            run.gains[attention.name] = gain
            live.status.modules.append(attention.name)
            yield gain.install()
        if self.heads is not None:
            run.fix(self.heads)
        elif self.strength != 1:
            yield live.session.on_prompt(run.begin)

    @classmethod
    def neutral(cls) -> Self:
        """Factor 1."""
        return cls(strength=1.0)

    def layers(self, parts: Anatomy) -> tuple[Attention, ...]:
        """The attention modules to work on: layers without attention are not counted.

        Args:
            parts: Of the model.

        Raises:
            BadInput: `heads` names a layer that has no attention.
        """
        every = parts.attention
        if self.heads is not None:
            strange = sorted(set(self.heads) - {one.layer for one in every})
            if strange:
                raise BadInput(
                    f"There is no attention in layer {strange[0]}; it is in {[one.layer for one in every]}."
                )
            return tuple(one for one in every if one.layer in self.heads)
        second, last = _PAPER.get(parts.family.model_type if parts.family else "", (True, 14))
        second = second if self.second_layer is None else self.second_layer
        last = last if self.last_layers is None else self.last_layers
        chosen = set(range(max(0, len(every) - last), len(every))) | (
            {1} if second and len(every) > 1 else set()
        )
        return tuple(every[i] for i in sorted(chosen))

    def select(self, target: Any, inputs: Inputs) -> dict[int, Bool[Tensor, "batch head"]]:
        """The heads it would strengthen for these prompts: layer → which heads, one row per prompt.

        Args:
            target: A `VLM` or a loaded model.
            inputs: What the processor gives.
        """
        with self.attach(target) as on, torch.no_grad():
            live = on.live
            live.anatomy.model(**for_forward(inputs, live.anatomy), use_cache=False)
            return dict(on.status().heads)

    def fold(self, target: Any) -> Attached:
        """Multiply the output projections' columns of `heads` instead of hooking; `remove()` puts the old ones back.

        Args:
            target: A `VLM` or a loaded model whose weights are in memory and not quantised.

        Raises:
            BadInput: `heads` is not given.
            CannotAttach: The weights are packed or elsewhere.
        """
        if self.heads is None:
            raise BadInput(
                "Folding needs one head set for all prompts: VHR(heads={layer: (head, …)}).fold(model)."
            )
        return _Folded(**vars(self)).attach(target)


class _Folded(VHR):
    """VHR inside the weights."""

    def hooks(self, live: Live) -> Iterator[Handle]:
        """Change the columns layer by layer."""
        for attention in self.layers(live.anatomy):
            live.status.modules.append(attention.name)
            yield fold_heads(attention, (self.heads or {})[attention.layer], self.strength)


_PAPER = {"instructblip": (False, 18)}
"""Family → work on the second layer, how many last layers; section 5.1 of the paper."""


@dataclass(slots=True)
class _Reinforcement:
    """The heads of one attached VHR, from one prompt to the next."""

    patch: VHR
    live: Live
    gains: dict[str, HeadGain] = field(default_factory=dict)
    text: dict[str, Tensor] = field(default_factory=dict)

    @property
    def attention(self) -> tuple[Attention, ...]:
        return self.patch.layers(self.live.anatomy)

    def fix(self, heads: Heads) -> None:
        """Use the same heads for every prompt."""
        for gain in self.gains.values():
            chosen = torch.zeros(1, gain.attention.n_heads, dtype=torch.bool)
            chosen[:, list(heads[gain.attention.layer])] = True
            self._use(gain.attention, chosen)
        self.live.status.note(
            "The same heads for every prompt; chosen per prompt they did far better in the paper."
        )

    def begin(self, prompt: Prompt) -> None:
        """Run without the picture, then choose in the pass that follows."""
        self.text.clear()
        self.live.status.heads.clear()
        for gain in self.gains.values():
            gain.reset()
            gain.watch = None
        if not _shows_something(prompt, self.live.anatomy):
            self.live.status.note("A prompt had no picture: its heads were left alone.")
            return
        if not self.patch.reinforce_counterfactual:
            self._run_without(prompt)
        for gain in self.gains.values():
            gain.watch = self._choose

    def _run_without(self, prompt: Prompt) -> None:
        """One pass without the picture; the last position's head outputs are kept."""
        parts = self.live.anatomy
        inputs = removed(self.patch.counterfactual, prompt, parts, self.live.session.tokenizer)
        whole = any(name.startswith("pixel_values") for name in inputs) or parts.family is None
        model = parts.model if whole or parts.family is None else parts.family.text_model(parts.model)
        session, state = self.live.session, State(read_prompt(inputs, parts), side=True, fresh=True)
        # reinforced, the pass is a stream of its own that lower layers' gains act on
        aside = session.stream(state) if self.patch.reinforce_counterfactual else session.bare()
        before = {name: gain.watch for name, gain in self.gains.items()}
        for gain in self.gains.values():
            gain.watch = self._keep
        try:
            with aside, torch.no_grad():
                model(**inputs, use_cache=False)
        finally:
            for name, gain in self.gains.items():
                gain.watch = before[name]

    def _keep(self, attention: Attention, heads_out: Tensor) -> None:
        self.text[attention.name] = heads_out[:, -1].detach()

    def _choose(self, attention: Attention, heads_out: Tensor) -> None:
        session = self.live.session
        if session.is_bare or session.state.side:
            return
        prompt, state = session.prompt, session.state
        if state.past or state.n_new < prompt.length:
            raise BadInput(
                f"VHR chooses heads in one pass over the whole prompt; this pass brings {state.n_new} of "
                f"{prompt.length} tokens after {state.past} cached ones. Prefill in one piece, without an old cache."
            )
        if self.patch.reinforce_counterfactual:
            self._run_without(prompt)
        # before the first new word all beams of a prompt are the same row: one of them chooses for all
        first = torch.arange(prompt.n_rows, device=heads_out.device) * (len(heads_out) // prompt.n_rows)
        full = heads_out[first, prompt.last.to(heads_out.device)].detach()
        text = self.text.get(attention.name)  # cross-attention is skipped without a picture
        text = torch.zeros_like(full) if text is None else text.to(full.device)
        self._use(attention, choose_heads(full, text, self.patch))
        self.gains[attention.name].watch = None

    def _use(self, attention: Attention, heads: Tensor) -> None:
        self.gains[attention.name].set(torch.where(heads, self.patch.strength, 1.0))
        self.live.status.heads[attention.layer] = heads.cpu()


def choose_heads(
    full: Float[Tensor, "batch head width"], text: Float[Tensor, "batch head width"], settings: VHR
) -> Bool[Tensor, "batch head"]:
    """The heads of one layer to strengthen.

    Reference: arXiv:2412.13949, eq. 4 to 7.

    Args:
        full: Head outputs at the last prompt position, with the picture.
        text: The same without it.
        settings: Distance and filter.
    """
    divergence = head_divergence(full, text, settings.distance)
    if settings.outlier_filter:
        divergence = drop_outliers(divergence, text, settings.sample_std)
    return above_median(divergence)


def _shows_something(prompt: Prompt, parts: Anatomy) -> bool:
    if parts.family is not None and not parts.family.image_in_text:
        return prompt.inputs.get("pixel_values") is not None
    return prompt.has_image
