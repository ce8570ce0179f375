"""A model on this machine answers: any Hugging Face vision-language or text model, by hub name or folder."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from vlmtools.bundled import located
from vlmtools.errors import BadInput
from vlmtools.families._footprint import footprint
from vlmtools.families._loading import check_options
from vlmtools.fingerprint import revision_of
from vlmtools.responders._patched import Attachable, attach_all, identity_of, label_of
from vlmtools.types import Json, Reply, Request
from vlmtools.video import N_FRAMES
from vlmtools.vlm import VLM, load

DECODING_VERSION = 1
"""Raised whenever this package would draw another answer from the same model and request."""
PATCHING_VERSION = 1
"""Raised whenever a patch of the same name and settings would change another answer."""
FIRST_GUESS = {"cpu": 4, "mps": 4}
"""Batch size tried first by `auto`, by device; elsewhere 16."""


class HF:
    """A Hugging Face model that is loaded when the first question comes.

    Args:
        model: Hub name, folder, or `reference:NAME` for a bundled model.
        quant: 4bit or 8bit through bitsandbytes; None keeps the weights as they are.
        dtype: auto (as stored), float32, float16 or bfloat16.
        batch_size: Questions answered together; `auto` starts with what usually fits and halves when it does
            not.
        revision: Branch, tag or commit of a hub model.
        trust_remote_code: Run Python code that comes with the checkpoint.
        offline: Never reach the network.
        name: Shown in tables; None takes the model's own name, its quantisation and its patches.
        allow_urls: Fetch pictures from `http(s)` URLs.
        patches: Attached in this order while the model is loaded; they are part of what an answer is stored under.
        num_beams: Beams of greedy answers, from 1; 1 is no beam search.
        n_frames: Frames shown of a video, evenly spread, from 1.
        prune: A token pruner, attached in front of the patches and part of the key like them; None keeps every token.

    Raises:
        BadInput: An option does not exist, or a patch has a function as setting.
    """

    def __init__(
        self,
        model: str,
        quant: str | None = None,
        dtype: str = "auto",
        batch_size: int | Literal["auto"] = "auto",
        revision: str | None = None,
        trust_remote_code: bool = False,
        offline: bool = False,
        name: str | None = None,
        allow_urls: bool = False,
        patches: Sequence[Attachable] = (),
        num_beams: int = 1,
        n_frames: int = N_FRAMES,
        prune: Attachable | None = None,
    ) -> None:
        check_options(dtype, quant)
        if n_frames < 1:
            raise BadInput(f"A video cannot be shown in {n_frames} frames. Give 1 or more.")
        if num_beams < 1:
            raise BadInput(f"There cannot be {num_beams} beams. One beam is no beam search; give 1 or more.")
        if batch_size != "auto" and batch_size < 1:
            raise BadInput(f"The batch size is {batch_size!r}. It is a whole number from 1, or 'auto'.")
        self.model, self.quant, self.dtype, self.batch_size = located(str(model)), quant, dtype, batch_size
        self.trust_remote_code, self.offline, self.allow_urls = trust_remote_code, offline, allow_urls
        self.patches, self.num_beams, self.n_frames = tuple(patches), num_beams, n_frames
        self.prune = prune
        self._pruning = None if prune is None else identity_of(prune)
        self._patching = [identity_of(patch) for patch in self.patches]
        self.name = name or self._own_name()
        self._asked_revision, self._revision = revision, ""
        self._vlm: VLM | None = None
        self._attached = ExitStack()

    def __getstate__(self) -> dict[str, Any]:
        """What another process needs to load the same model: no weights, and a folder is looked at anew there."""
        folder = Path(self.model).expanduser().is_dir()
        settled = {"_revision": ""} if folder else {"_asked_revision": self.revision, "_revision": ""}
        return self.__dict__ | {"_vlm": None, "_attached": ExitStack()} | settled

    def __repr__(self) -> str:
        more = f", patches={list(self.patches)!r}" if self.patches else ""
        more += f", prune={self.prune!r}" if self.prune is not None else ""
        return f"HF({self.model!r}, quant={self.quant!r}, dtype={self.dtype!r}{more})"

    def _own_name(self) -> str:
        beams = f"{self.num_beams}beams" if self.num_beams > 1 else None
        base = "-".join(part for part in (Path(self.model).name, self.quant, beams) if part)
        return "+".join([base, *map(label_of, self._attachables())])

    def _attachables(self) -> tuple[Attachable, ...]:
        return self.patches if self.prune is None else (self.prune, *self.patches)

    @property
    def revision(self) -> str:
        """The commit of a hub model, or a digest of the folder's content; settled once."""
        if not self._revision:
            self._revision = revision_of(self.model, self._asked_revision, offline=self.offline)
        return self._revision

    def identity(self) -> Mapping[str, Json]:
        """What, apart from the request, decides the answer; found without loading the model."""
        folder = Path(self.model).expanduser().is_dir()
        return {
            "kind": "hf",
            "model": Path(self.model).name
            if folder
            else self.model,  # the digest says which; a moved folder is the same
            "revision": self.revision,
            "quant": self.quant,
            "dtype": self.dtype,
            "trust_remote_code": self.trust_remote_code,
            "transformers": version("transformers"),
            "images": "torchvision" if find_spec("torchvision") else "pillow",
            "decoding": DECODING_VERSION,
            **self._changes(),
        }

    def _changes(self) -> dict[str, Json]:
        """Named only where there are any, so that answers stored without them keep their keys."""
        patched = {"patches": self._patching, "patching": PATCHING_VERSION} if self.patches else {}
        patched |= {"prune": self._pruning, "patching": PATCHING_VERSION} if self._pruning else {}
        beams = {"num_beams": self.num_beams} if self.num_beams > 1 else {}
        return patched | beams | ({"n_frames": self.n_frames} if self.n_frames != N_FRAMES else {})

    def memory(self, on_gpu: bool) -> tuple[int, int] | None:
        """Bytes of the weights, and of a batch beside them, estimated without loading; None when nobody knows.

        Args:
            on_gpu: Whether the model will lie on a GPU, where the first batch is larger.
        """
        guess = FIRST_GUESS.get("cuda" if on_gpu else "cpu", 16)
        batch = guess if self.batch_size == "auto" else int(self.batch_size)
        revision = None if Path(self.model).expanduser().is_dir() else self.revision
        n_calls = batch * self.num_beams
        return footprint(self.model, revision, self.dtype, self.quant, n_calls, self.trust_remote_code)

    def answer(self, requests: Sequence[Request]) -> Iterator[tuple[Request, Reply]]:
        """Yield each request with its reply, a batch at a time.

        Raises:
            BadInput: The model cannot be loaded.
        """
        if not requests:
            return
        vlm = self.load()
        # One stable order for the whole list: an interrupted caller that asks for the rest gets it in the same order.
        waiting = sorted(requests, key=_length)
        while waiting:
            size = self._size(vlm)  # may have shrunk
            batch, waiting = waiting[:size], waiting[size:]
            yield from zip(batch, vlm.generate(batch), strict=True)

    def load(self) -> VLM:
        """The model with its patches, loaded now if it is not yet.

        Raises:
            BadInput: It cannot be loaded.
            CannotAttach: A patch does not fit it.
        """
        if self._vlm is None:
            folder = Path(self.model).expanduser().is_dir()
            vlm = load(
                self.model,
                dtype=self.dtype,
                quant=self.quant,
                revision=None if folder else self.revision,
                trust_remote_code=self.trust_remote_code,
                local_files_only=self.offline,
            )
            vlm.name, vlm.allow_urls, vlm.num_beams = self.name, self.allow_urls, self.num_beams
            vlm.n_frames = self.n_frames
            self._attached = attach_all(self._attachables(), vlm)
            self._vlm = vlm
        return self._vlm

    def close(self) -> None:
        """Take the patches off, let go of the model and give its memory back; a later question loads it again."""
        self._attached.close()
        if self._vlm is not None:
            self._vlm.close()
            self._vlm = None

    def _size(self, vlm: VLM) -> int:
        wanted = (
            FIRST_GUESS.get(vlm.model.device.type, 16) if self.batch_size == "auto" else int(self.batch_size)
        )
        return min(wanted, vlm.largest_batch or wanted)


def _length(request: Request) -> tuple[bool, int, int]:
    """Questions that take equally long stand together, so that short ones do not wait for long ones."""
    sees: Any = request.show_media and bool(request.sample.media)
    return (
        bool(sees),
        request.decoding.max_new_tokens,
        len(request.sample.prompt) + len(request.sample.text or ""),
    )
