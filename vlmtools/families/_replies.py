"""From written-out prompts to replies: one `generate` over a batch, then every row's own answer cut out of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vlmtools.families._processors import takes_images, takes_video
from vlmtools.families._streamer import Streamer, decoder
from vlmtools.types import Reply, Request
from vlmtools.video import Frames

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

NEUTRAL = {
    "do_sample": False,
    "num_beams": 1,
    "repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "min_length": 0,
}
"""Settings of `generate` that leave an answer to the request alone, whatever the checkpoint brings."""
BEAMS = {"length_penalty": 1.0, "early_stopping": False, "num_return_sequences": 1}
"""What comes on top with beams."""


@dataclass(frozen=True, slots=True)
class Ready:
    """A request whose picture or video is open and whose prompt is written out.

    Args:
        request: What was asked.
        text: The prompt as the model reads it.
        shown: The picture or video; None for neither.
    """

    request: Request
    text: str
    shown: "Image | Frames | None"

    @property
    def kind(self) -> str:
        """video, image, or nothing."""
        return "" if self.shown is None else "video" if isinstance(self.shown, Frames) else "image"

    @property
    def modality(self) -> tuple[str, ...]:
        """The kinds of input the model receives."""
        passage = self.request.show_media and self.request.sample.text is not None
        return (*((self.kind,) if self.kind else ()), *(("text",) if passage else ()))

    @property
    def form(self) -> tuple[str, bool, int]:
        """What rows of a batch share: what they show, whether they are raw, and how many frames they have."""
        return self.kind, self.request.raw, len(self.shown.images) if isinstance(self.shown, Frames) else 0


def refusal(media: Mapping[str, str], processor: Any, name: str) -> str:
    """Why an item with these media is not shown to a model; empty when it is.

    Args:
        media: Kind → path or URL.
        processor: Of the model.
        name: Of the model, for the message.
    """
    if "audio" in media:
        return (
            f"The item has sound and {name} hears nothing. Leave `audio` out of the items to ask about the rest, and "
            "the answers will say so."
        )
    if len(media) > 1:
        return f"The item has {' and '.join(media)}; one of them can be shown. Make two items of it."
    if "video" in media and not takes_video(processor):
        reason = "takes pictures, no videos" if takes_images(processor) else "takes text only"
        return f"The item has a video and {name} {reason}. Choose a model that watches videos."
    if "image" in media and not takes_images(processor):
        return f"{name} takes text only and the item has an image. Choose a model that sees."
    return ""


def replies(
    model: Any,
    tokenizer: Any,
    batch: Any,
    rows: Sequence[Ready],
    num_beams: int = 1,
    streamer: Streamer | None = None,
) -> list[Reply]:
    """Ask the model about one batch.

    Args:
        model: The Hugging Face model.
        tokenizer: Its tokenizer.
        batch: The tensors of the rows, padded on the left.
        rows: What was asked, in the batch's order.
        num_beams: Beams of greedy answers; 1 is no beam search.
        streamer: Shown the tokens as they are written.
    """
    from vlmtools.decoding import RowSampler, cut, new_tokens

    sampler = RowSampler([row.request for row in rows])
    ends = end_tokens(model, tokenizer)
    new = model.generate(
        **batch,
        **(NEUTRAL | ({**BEAMS, "num_beams": num_beams} if num_beams > 1 else {})),
        **({"streamer": streamer} if streamer else {}),
        logits_processor=[sampler],
        max_new_tokens=max(row.request.decoding.max_new_tokens for row in rows),
        eos_token_id=ends or None,
        pad_token_id=tokenizer.pad_token_id,
    )
    read = batch["attention_mask"].sum(-1).tolist()
    made = []
    for i, (ids, row) in enumerate(zip(new_tokens(new, batch["input_ids"]), rows, strict=True)):
        written = cut(ids, ends, row.request.decoding.max_new_tokens)
        first = _first(sampler.first, i * num_beams, row, tokenizer)
        made.append(_reply(written, ends, row, tokenizer, int(read[i]), first))
    return made


def end_tokens(model: Any, tokenizer: Any) -> list[int]:
    """The tokens that end an answer.

    Args:
        model: The Hugging Face model.
        tokenizer: Its tokenizer, asked where the model's settings name none.
    """
    ends = model.generation_config.eos_token_id
    ends = tokenizer.eos_token_id if ends is None else ends
    several = ends if isinstance(ends, list | tuple) else [ends]
    return [int(end) for end in several if end is not None]


def _reply(
    ids: list[int],
    ends: Sequence[int],
    row: Ready,
    tokenizer: Any,
    n_read: int,
    first: Mapping[str, float] | None,
) -> Reply:
    return Reply(
        decoder(tokenizer)(ids).strip(),
        n_prompt_tokens=n_read,
        n_new_tokens=len(ids),
        first_token=first,
        modality=row.modality,
        truncated=not (ids and ids[-1] in ends),
    )


def _first(
    probability: "Tensor | None", row: int, ready: Ready, tokenizer: Any
) -> Mapping[str, float] | None:
    from vlmtools.decoding import N_FIRST_TOKENS, likely_tokens

    if probability is None or not ready.request.first_token:
        return None
    ids = probability[row].topk(min(N_FIRST_TOKENS, probability.shape[1])).indices.tolist()
    return likely_tokens(probability[row], [tokenizer.decode([token]) for token in ids], ids)
