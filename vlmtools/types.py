"""The records that flow between the parts of vlmtools.

Axis names used in shape annotations everywhere:

    batch        examples computed together          item      samples (images, videos, …) of a run
    seq          positions of the language model     target    models whose answers are scored
    layer head   of the language model               evidence  models whose answers support or contradict
    dim          hidden width                        claim     sentences or objects of an answer
    image_token  visual positions in the prompt      boot      bootstrap resamples
    vocab        entries of the vocabulary
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

Json = Any
"""Anything `json.dumps` writes without help."""

_DRAWS_PER_SEED = 100_003
"""More than anybody draws, so that neighbouring base seeds share no draw."""

MODALITIES = ("image", "video", "audio", "text")


@dataclass(frozen=True, slots=True)
class Sample:
    """One item: what every model is asked about.

    Args:
        id: Unique within a run; file rows with the same id are answers to the same item.
        prompt: The question. May be empty for recorded answers.
        image: Path or `http(s)`/`data:` URL of the picture.
        video: Path or URL of the video.
        audio: Path or URL of the sound.
        text: A passage the question is about.
        reference: A trusted answer, used by the `ref` mode and by benchmarks only.
        extra: Further fields of the row, passed through untouched.
    """

    id: str
    prompt: str = ""
    image: str | None = None
    video: str | None = None
    audio: str | None = None
    text: str | None = None
    reference: str | None = None
    extra: Mapping[str, Json] = field(default_factory=dict)

    @property
    def media(self) -> tuple[tuple[str, str], ...]:
        """(kind, path or URL) of each medium the item carries, in the order of `MODALITIES`, text left out."""
        pairs = (("image", self.image), ("video", self.video), ("audio", self.audio))
        return tuple((kind, where) for kind, where in pairs if where is not None)

    @property
    def modality(self) -> tuple[str, ...]:
        """The kinds of input the item carries, in the order of `MODALITIES`."""
        return tuple(kind for kind in MODALITIES if getattr(self, kind) is not None)


@dataclass(frozen=True, slots=True)
class Decoding:
    """How an answer is drawn.

    Args:
        temperature: 0 is greedy; CrossCheckGPT draws its evidence at 1.
        top_p: Nucleus probability in (0, 1]; 1 keeps the whole distribution.
        max_new_tokens: Length limit in tokens, at least 1.
        seed: Base seed. The seed really used also depends on the sample index.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    max_new_tokens: int = 256
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Request:
    """One call to a responder.

    Args:
        sample: The item, with the prompt to send.
        decoding: How to draw the answer.
        draw: 0 for the single answer that is scored; 1..K for the stochastic samples used as evidence.
        first_token: Ask for the probabilities of the first new token (used by yes/no judges).
        show_media: False sends the prompt alone, although the item carries a picture.
        raw: Local models read the prompt as it is, without their chat template. Servers have no such form: they get it
            as one user turn.
    """

    sample: Sample
    decoding: Decoding = Decoding()
    draw: int = 0
    first_token: bool = False
    show_media: bool = True
    raw: bool = False

    @property
    def seed(self) -> int:
        """The seed of this very call: differs between draws, equal between runs."""
        return self.decoding.seed * _DRAWS_PER_SEED + self.draw


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back from one call.

    Args:
        text: The answer; None when there is none.
        error: Why there is none.
        n_prompt_tokens: Tokens read, when known.
        n_new_tokens: Tokens written, when known.
        first_token: Text of likely first tokens → probability in [0, 1], when asked for and known.
        modality: The kinds of input the model really received.
        truncated: True when the length limit cut the answer.
    """

    text: str | None
    error: str | None = None
    n_prompt_tokens: int | None = None
    n_new_tokens: int | None = None
    first_token: Mapping[str, float] | None = None
    modality: tuple[str, ...] = ()
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class Answers:
    """Everything one model said about one item.

    Args:
        id: The item.
        model: Who answered: the name shown in tables.
        text: The answer that is scored.
        samples: Stochastic answers to the same request, used as evidence; empty when only `text` exists.
        modality: The kinds of input the model received; empty when unknown.
    """

    id: str
    model: str
    text: str
    samples: tuple[str, ...] = ()
    modality: tuple[str, ...] = ()

    @property
    def evidence(self) -> tuple[str, ...]:
        """The passages that speak for this model: its samples, or its one answer when there are none."""
        return self.samples or (self.text,)


@runtime_checkable
class Responder(Protocol):
    """Anything that answers: a loaded model, a server, a file of recorded answers.

    `name` is shown in tables. `identity()` is everything that may change an answer apart from the request
    (kind, model, revision, quantisation, patches, …) and never holds a secret: it becomes part of the key under
    which an answer is stored. `answer()` yields each (request, reply) as soon as it is there, in any order, and
    never raises for a single bad item: that comes back as a `Reply` with an `error`. `close()` frees the memory.
    """

    @property
    def name(self) -> str:
        """Shown in tables; unique within a run."""
        ...

    def identity(self) -> Mapping[str, Json]:
        """What, apart from the request, decides the answer."""
        ...

    def answer(self, requests: Sequence[Request]) -> Iterator[tuple[Request, Reply]]:
        """Yield every request with its reply, as they arrive."""
        ...

    def close(self) -> None:
        """Free memory and connections; may be called twice."""
        ...


def by_id(samples: Iterable[Sample]) -> Mapping[str, Sample]:
    """Samples by id, in their order: the view that `Items` bring along, else a dict."""
    view = getattr(samples, "by_id", None)
    return view if isinstance(view, Mapping) else {sample.id: sample for sample in samples}
