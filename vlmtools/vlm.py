"""VLM: a Hugging Face model with its processor; load one by name, ask it in batches.

How an answer is drawn is decided by the request alone: greedy, or random with noise that belongs to the row
(see `vlmtools.decoding`). The checkpoint's own sampling settings and penalties are not used, only its end and
padding tokens. A checkpoint without a chat template is sent `<image token>` + line break + prompt, and the
bare prompt without picture.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmtools.bundled import located
from vlmtools.errors import BadInput, ResponderError
from vlmtools.families._loading import (
    check_folder,
    check_options,
    free_memory,
    is_out_of_memory,
    load_config,
    load_model,
)
from vlmtools.families._processors import as_videos, load_processor, takes_images
from vlmtools.families._replies import Ready, refusal, replies
from vlmtools.families._streamer import Streamer, decoder
from vlmtools.families._templates import write_chat
from vlmtools.media import load_image, prompt_text
from vlmtools.types import Decoding, Reply, Request, Sample
from vlmtools.video import N_FRAMES, Frames, read_frames

if TYPE_CHECKING:
    from PIL.Image import Image

    from vlmtools.families.base import ModelFamily

log = logging.getLogger(__name__)


@dataclass(slots=True)
class VLM:
    """A vision-language model (or a text-only one) that answers.

    Args:
        model: The Hugging Face model.
        processor: Its processor, or its tokenizer when it takes text only.
        name: Shown in tables and messages.
        allow_urls: Fetch pictures from `http(s)` URLs.
        num_beams: Beams of greedy answers, from 1; 1 is no beam search.
        n_frames: Frames shown of a video, evenly spread, from 1.
        longest_side: Larger frames of a video are scaled down to this many pixels while they are read; 0 leaves their
            size to the processor.
        largest_batch: The largest batch known to fit memory; None until a batch did not fit.
    """

    model: Any
    processor: Any
    name: str = "model"
    allow_urls: bool = False
    num_beams: int = 1
    n_frames: int = N_FRAMES
    longest_side: int = 0
    largest_batch: int | None = field(default=None, init=False)

    @classmethod
    def wrap(cls, model: Any, processor: Any = None, name: str | None = None) -> "VLM":
        """Use a model that is already loaded; nothing about it is changed.

        Args:
            model: Any Hugging Face model with `generate`.
            processor: Its processor; None loads the one that belongs to the checkpoint the model came from.
            name: Shown in tables; None takes the checkpoint's name.
        """
        origin = str(getattr(model.config, "_name_or_path", "") or "")
        if processor is None and not origin:
            raise BadInput(
                "The model does not say where it came from. Pass its processor: wrap(model, processor)."
            )
        if processor is None:
            processor = load_processor(origin, model.config, trust_remote_code=False)
        return cls(model, processor, name or Path(origin).name or type(model).__name__)

    @property
    def family(self) -> "ModelFamily | None":
        """Facts about the model's `model_type`; None when no file under `families/` describes it."""
        from vlmtools.families._probe import family_of

        return family_of(self.model.config)

    @property
    def tokenizer(self) -> Any:
        """The tokenizer inside the processor."""
        return getattr(self.processor, "tokenizer", None) or self.processor

    def answer(self, image: "str | Path | Image | None", prompt: str, **decoding: Any) -> str:
        """Ask one question about one picture.

        Args:
            image: Path, URL or opened picture; None asks without one.
            prompt: The question.
            decoding: Fields of `Decoding`: temperature, top_p, max_new_tokens, seed.

        Raises:
            ResponderError: There is no answer; the message says why.
        """
        picture = None if image is None else load_image(image, allow_urls=self.allow_urls)
        ready = self._ready(Request(Sample("", prompt), Decoding(**decoding)), picture)
        reply = ready if isinstance(ready, Reply) else self._run([ready])[0]
        if reply.text is None:
            raise ResponderError(f"{self.name} gave no answer: {reply.error}")
        return reply.text

    def generate(self, requests: Sequence[Request]) -> list[Reply]:
        """Answer a batch, in order; an item that cannot be answered comes back with an `error`.

        When the batch does not fit memory it is halved until it does, and `largest_batch` remembers.

        Args:
            requests: The batch. Requests may differ in everything, decoding included.
        """
        ready = [self._opened(request) for request in requests]
        done = {i: item for i, item in enumerate(ready) if isinstance(item, Reply)}
        # Rows of a batch share how they are tokenised: pictures first, then videos, then bare prompts.
        forms = {row.form: () for row in ready if isinstance(row, Ready)}
        for form in sorted(forms, key=lambda form: (["image", "video", ""].index(form[0]), *form[1:])):
            rows = {i: r for i, r in enumerate(ready) if isinstance(r, Ready) and r.form == form}
            done.update(zip(rows, self._run(list(rows.values())), strict=True))
        return [done[i] for i in range(len(requests))]

    def stream(self, request: Request, show: Callable[[str], object]) -> Reply:
        """Answer one request and show the text as it is written; the pieces together are the answer.

        With beams, which change their minds, the answer comes in one piece at the end.

        Args:
            request: The request.
            show: Receives each new piece of text.
        """
        ready = self._opened(request)
        if isinstance(ready, Reply):
            return ready
        streamer = Streamer(decoder(self.tokenizer), show) if self.num_beams == 1 else None
        done, problem = self._attempt([ready], streamer)
        reply = done[0] if done else Reply(None, error=problem, modality=ready.modality)
        if streamer is None and reply.text:
            show(reply.text)
        return reply

    def close(self) -> None:
        """Let go of the model and give its memory back."""
        self.model = self.processor = None
        free_memory()

    def chat(self, prompt: str, with_image: bool, with_video: bool = False) -> str:
        """The prompt as the model was trained to read it.

        Args:
            prompt: The question.
            with_image: Put a picture before the question.
            with_video: Put a video before the question, instead of a picture.
        """
        return write_chat(self.processor, prompt, with_image, with_video)

    def inputs(
        self,
        texts: Sequence[str],
        images: "Sequence[Image] | None" = None,
        videos: Sequence[Frames] | None = None,
    ) -> Any:
        """The tensors for one batch, padded on the left, on the model's device.

        Args:
            texts: Written-out prompts, as `chat` gives them.
            images: One picture per prompt, or None.
            videos: One video per prompt, all of equally many frames, or None.
        """
        bos = getattr(self.tokenizer, "bos_token", None)
        options = {"padding": True, "padding_side": "left", "return_tensors": "pt"}
        if bos and texts[0].startswith(bos):
            options["add_special_tokens"] = False  # the template has written it already
        self._can_pad()
        media: dict[str, Any] = {"images": [[image] for image in images]} if images else {}
        media |= as_videos(videos) if videos else {}
        batch = self.processor(text=list(texts), **media, **options)
        if not takes_images(self.processor):
            batch.pop("token_type_ids", None)  # tokenizers add it, text models do not take it
        return batch.to(self.model.device, self.model.dtype) if media else batch.to(self.model.device)

    def _can_pad(self) -> None:
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token

    def _opened(self, request: Request) -> Ready | Reply:
        media = dict(request.sample.media) if request.show_media else {}
        why = refusal(media, self.processor, self.name)
        if why:
            return Reply(None, error=why)
        try:
            return self._ready(request, self._shown(media))
        except BadInput as error:
            return Reply(None, error=str(error))
        # a chat template is a program of the checkpoint: it may raise anything for one odd prompt
        except Exception as error:
            return Reply(None, error=f"The prompt cannot be written out: {type(error).__name__}: {error}")

    def _shown(self, media: Mapping[str, str]) -> "Image | Frames | None":
        if "video" in media:
            return read_frames(media["video"], self.n_frames, self.longest_side)
        return load_image(media["image"], allow_urls=self.allow_urls) if "image" in media else None

    def _ready(self, request: Request, shown: "Image | Frames | None") -> Ready | Reply:
        if shown is not None and not takes_images(self.processor):
            why = f"{self.name} takes text only and the item has an image. Choose a model that sees."
            return Reply(None, error=why)
        if self.num_beams > 1 and request.decoding.temperature > 0:
            why = f"{self.num_beams} beams search, a temperature draws; one excludes the other. Use temperature 0."
            return Reply(None, error=why)
        asked = prompt_text(request)
        video = isinstance(shown, Frames)
        text = asked if request.raw else self.chat(asked, shown is not None and not video, video)
        return Ready(request, text, shown)

    def _run(self, rows: list[Ready]) -> list[Reply]:
        if not rows:
            return []
        done, problem = self._attempt(rows)
        if done is not None:
            return done
        if len(rows) == 1:
            return [Reply(None, error=problem, modality=rows[0].modality)]
        half = (len(rows) + 1) // 2
        if problem == _OUT_OF_MEMORY:
            self.largest_batch = min(half, self.largest_batch or half)
            log.warning("%s: a batch of %d does not fit memory, going on with %d", self.name, len(rows), half)
        return self._run(rows[:half]) + self._run(rows[half:])

    def _attempt(self, rows: list[Ready], streamer: Streamer | None = None) -> tuple[list[Reply] | None, str]:
        """Replies, or why there are none; the exception is dropped, because it holds the batch's memory."""
        training = self.model.training
        if training:
            self.model.eval()
        try:
            return self._replies(rows, streamer), ""
        # whatever a processor or model raises for one odd item must not end the run
        except Exception as error:
            if not is_out_of_memory(error):
                log.debug("a batch of %d failed", len(rows), exc_info=True)
                return None, f"{type(error).__name__}: {error}"
        finally:
            if training:
                self.model.train()
        free_memory()
        return None, _OUT_OF_MEMORY

    def _replies(self, rows: Sequence[Ready], streamer: Streamer | None = None) -> list[Reply]:
        videos = [row.shown for row in rows if isinstance(row.shown, Frames)]
        images = [row.shown for row in rows if row.shown is not None and not isinstance(row.shown, Frames)]
        batch = self.inputs([row.text for row in rows], images or None, videos or None)
        return replies(self.model, self.tokenizer, batch, rows, self.num_beams, streamer)


def load(
    name_or_path: str | Path,
    *,
    dtype: str = "auto",
    device_map: str | None = "auto",
    quant: str | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    local_files_only: bool = False,
) -> VLM:
    """Load a vision-language model, or a text-only one, by hub name or folder.

    Args:
        name_or_path: Such as `llava-hf/llava-1.5-7b-hf`, a folder in the same layout, or `reference:clean`.
        dtype: Of the weights: auto (as stored), float32, float16 or bfloat16.
        device_map: Where accelerate puts the layers: auto, cpu, cuda, …; None leaves them on the CPU.
        quant: 4bit (nf4) or 8bit (int8) through bitsandbytes; None keeps the weights as they are.
        revision: Branch, tag or commit of a hub model.
        trust_remote_code: Run Python code that comes with the checkpoint.
        local_files_only: Never reach the network.

    Raises:
        BadInput: There is no such model, it cannot be loaded safely, or an option does not exist.
    """
    check_options(dtype, quant)
    asked = located(str(name_or_path))
    folder = Path(asked).expanduser()
    check_folder(folder)
    name = str(folder if folder.is_dir() else asked)
    hub = {"revision": revision, "local_files_only": local_files_only, "trust_remote_code": trust_remote_code}
    config = load_config(name, hub)
    model = load_model(name, config, dtype, device_map, quant, hub)
    return VLM(model.eval(), load_processor(name, config, **hub), Path(name).name)


_OUT_OF_MEMORY = "out of memory, even alone. Use quant='4bit', a smaller dtype, or a shorter max_new_tokens."
