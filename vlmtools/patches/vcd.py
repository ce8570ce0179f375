"""VCD: take away what the model would also say to a picture drowned in noise."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import torch
from jaxtyping import Float
from torch import Tensor

from vlmtools.errors import BadInput
from vlmtools.families._counterfactual import PIXELS
from vlmtools.families._prompt import Prompt
from vlmtools.families._refuse import refuse_encoded
from vlmtools.patches._contrast import PictureStream, plausible
from vlmtools.patches._stream import Contrast
from vlmtools.patches.base import Handle, Live, Patch

N_STEPS = 1000


def visual_contrast(
    scores: Float[Tensor, "row vocab"], noisy: Float[Tensor, "row vocab"], strength: float, cutoff: float
) -> Float[Tensor, "row vocab"]:
    """Log-probabilities of the contrast, among the tokens that are likely with the clear picture.

    Reference: arXiv:2311.16922, eq. 3 to 5.

    Args:
        scores: With the clear picture.
        noisy: With the noisy one.
        strength: 0 keeps the order of likely tokens.
        cutoff: Share of the largest probability below which a token is dropped, in (0, 1].
    """
    moved = (1 + strength) * scores - strength * noisy
    # beams are compared with each other, so the scores must be probabilities
    return (moved + plausible(scores, cutoff)).log_softmax(-1)


def share_of_picture(step: int) -> float:
    """The square root of how much of the picture's variance is left after some diffusion steps.

    Reference: arXiv:2311.16922, eq. 2, with the schedule of the released code.

    Args:
        step: From 0, almost all, to 999, almost nothing.
    """
    betas = torch.linspace(-6, 6, N_STEPS, dtype=torch.float64).sigmoid() * (0.5e-2 - 1e-5) + 1e-5
    return float((1 - betas).cumprod(0)[step].sqrt())


def add_noise(pixels: Float[Tensor, "..."], step: int, seed: int) -> Float[Tensor, "..."]:
    """Diffusion noise on normalised pixels, the same for the same seed on every device.

    Args:
        pixels: Of one picture.
        step: From 0 to 999.
        seed: Decides the noise.
    """
    share = share_of_picture(step)
    noise = torch.randn(pixels.shape, generator=torch.Generator().manual_seed(seed)).to(pixels.device)
    noisy: Tensor = share * pixels.float() + (1 - share**2) ** 0.5 * noise
    return noisy.to(pixels.dtype)


@dataclass(frozen=True)
class VCD(Patch):
    """Visual contrastive decoding: `(1 + a) z - a z'`, z' from the same prompt with noise on the picture.

    It acts in `generate`, with greedy search, sampling and beams, and doubles the cost of decoding.

    Reference: arXiv:2311.16922, eq. 3 to 5.

    Args:
        strength: a, from 0 up; 0 is neutral (no second stream and no cutoff), the paper uses 1.
        cutoff: Tokens less likely than this share of the likeliest are dropped, in (0, 1]; the paper uses .1.
        noise_step: Diffusion steps of noise, 0 to 999; the paper uses 500 and more.
        seed: Of the noise, which is the same for all pictures (or tiles of one) of a size, so that an answer depends
            neither on its batch nor on chance. The released code draws anew for every question.
    """

    strength: float = 1.0
    cutoff: float = 0.1
    noise_step: int = 500
    seed: int = 0

    def hooks(self, live: Live) -> Iterator[Handle]:
        """Add the second stream to every `generate`."""
        _check(self)
        live.status.note("Acts on the scores in generate; single passes are left alone.")
        if self.strength == 0:
            return

        def make(prompt: Prompt) -> Any:
            if all(prompt.inputs.get(name) is None for name in PIXELS):
                refuse_encoded(prompt.inputs, "vcd")
                return unchanged
            stream = PictureStream(live, prompt, lambda inputs: noisy_inputs(inputs, self))
            return Contrast(
                stream, lambda z, other: visual_contrast(z.float(), other, self.strength, self.cutoff)
            )

        yield live.session.add_processor(make)

    @classmethod
    def neutral(cls) -> Self:
        """No contrast."""
        return cls(strength=0.0)


def noisy_inputs(inputs: dict[str, Any], settings: VCD) -> dict[str, Any]:
    """The inputs of a pass with noise on every picture and every frame of a video.

    Args:
        inputs: By name.
        settings: Noise step and seed.
    """
    grids = {"pixel_values": "image_grid_thw", "pixel_values_videos": "video_grid_thw"}
    return {
        name: _noisy(value, inputs.get(grids[name]), settings) if name in grids else value
        for name, value in inputs.items()
    }


def _noisy(pixels: Tensor, grid: Tensor | None, settings: VCD) -> Tensor:
    # families with a grid lay the patches of all pictures end to end; the others have a row per picture, tile or prompt
    sizes = [1] * len(pixels) if grid is None else grid.prod(-1).tolist()
    noisy = [add_noise(one, settings.noise_step, settings.seed) for one in torch.split(pixels, sizes)]
    return torch.cat(noisy)


def unchanged(_input_ids: Tensor, scores: Tensor) -> Tensor:
    """The processor for prompts without picture."""
    return scores


def _check(settings: VCD) -> None:
    if not 0 <= settings.noise_step < N_STEPS:
        raise BadInput(
            f"noise_step={settings.noise_step}: diffusion has steps 0 to {N_STEPS - 1}; 500 is the paper's."
        )
    if not 0 < settings.cutoff <= 1:
        raise BadInput(f"cutoff={settings.cutoff} is no share above 0 and up to 1; .1 is the paper's.")
