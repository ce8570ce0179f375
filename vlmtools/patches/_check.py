"""Try on somebody's own loaded model what every patch promises."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vlmtools.errors import CannotAttach
from vlmtools.families._probe import bare
from vlmtools.patches._touch import QUESTION, drawn_pictures, must_see
from vlmtools.patches.base import Attached, Patch
from vlmtools.vlm import VLM

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

QUESTIONS = (QUESTION, "What is the largest thing in the image, and what stands beside it?")
"""Two of different length, so that a batch of both is padded."""
N_NEW = 8
SLACK = 10.0
"""How many times further than the unpatched model a batch may be from single questions; sums in another order and, for
methods that choose heads, a choice that is nearly even lie behind it."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one patch on one model.

    Args:
        patch: The patch.
        refused: Why it says that it does not fit the model; empty when it does.
        failed: Check → what went wrong; empty text when it passed.
        acts: Whether the patch changes the prediction at all.
        notes: Remarks of the patch.
    """

    patch: Patch
    refused: str = ""
    failed: Mapping[str, str] = field(default_factory=dict)
    acts: bool = False
    notes: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        """Nothing went wrong; a patch that refuses the model did nothing wrong."""
        return not any(self.failed.values())


class Probe:
    """Two questions about two pictures to one model, and what it says without patches.

    Args:
        vlm: The model.
        images: Two pictures; None draws some.

    Raises:
        BadInput: The model does not see.
    """

    def __init__(self, vlm: VLM, images: "Sequence[Image] | None" = None) -> None:
        must_see(vlm)
        self.vlm = vlm
        shown = list(images or drawn_pictures())
        texts = [vlm.chat(question, with_image=True) for question in QUESTIONS]
        self.pair = vlm.inputs(texts, shown)
        self.singles = [vlm.inputs([text], [image]) for text, image in zip(texts, shown, strict=True)]
        self.tokens = self.answer(self.pair)
        self.logits, self.scores = self.predict(self.pair), self.decide()
        self.repeats = _same(self.logits, self.predict(self.pair))
        self.hung = hung(vlm.model)
        self.gap = self.distance()

    def predict(self, inputs: Mapping[str, Any]) -> "Tensor":
        """Scores of the first new token, one row per prompt.

        Args:
            inputs: From `VLM.inputs`.
        """
        import torch

        with torch.no_grad():
            found: Tensor = self.vlm.model(**inputs).logits[:, -1].float().cpu()
        return found

    def decide(self) -> "Tensor":
        """Scores of the first new token as `generate` finally uses them."""
        import torch

        options = {"do_sample": False, "num_beams": 1, "max_new_tokens": 1, "return_dict_in_generate": True}
        pad = self.vlm.tokenizer.pad_token_id
        out = self.vlm.model.generate(**self.pair, **options, output_scores=True, pad_token_id=pad)
        return torch.stack(out.scores).float().cpu()

    def answer(self, inputs: Mapping[str, Any], stop_at: int = 0) -> list[list[int]]:
        """New tokens, greedy.

        Args:
            inputs: From `VLM.inputs`.
            stop_at: Raise `Interrupted` at this new token; 0 for never.
        """
        from vlmtools.decoding import new_tokens

        model, tokenizer = self.vlm.model, self.vlm.tokenizer
        out = model.generate(
            **inputs,
            do_sample=False,
            num_beams=1,
            max_new_tokens=N_NEW,
            min_new_tokens=N_NEW,
            pad_token_id=tokenizer.pad_token_id,
            stopping_criteria=[_Interrupt(stop_at)] if stop_at else None,
        )
        return new_tokens(out, inputs["input_ids"])

    def distance(self) -> float:
        """Largest difference between the scores of the padded batch and those of single questions."""
        import torch

        single = torch.cat([self.predict(one) for one in self.singles])
        return float((self.predict(self.pair) - single).abs().max())


class Interrupted(Exception):
    """Stands for a user who stops an answer half way."""


class _Interrupt:
    """A stopping criterion that raises."""

    def __init__(self, stop_at: int) -> None:
        self.left = stop_at

    def __call__(self, *_args: Any, **_kwargs: Any) -> Any:
        self.left -= 1
        if self.left <= 0:
            raise Interrupted
        return False


def check_patch(probe: Probe, patch: Patch) -> Verdict:
    """Try one patch: neutral exact, removal exact also after an error, generation works, padding changes nothing.

    Args:
        probe: The model and what it says unpatched.
        patch: With the settings to try.
    """
    try:
        with patch.attach(probe.vlm) as on:
            acts = not _same(probe.decide(), probe.scores)
            notes = tuple(on.status().notes)
    except CannotAttach as reason:
        return Verdict(patch, refused=str(reason))
    except Exception as error:
        return Verdict(patch, failed={"generates": _told(error)})
    return Verdict(
        patch, "", {name: _tried(check, probe, patch) for name, check in CHECKS.items()}, acts, notes
    )


def _neutral(probe: Probe, patch: Patch) -> str:
    with _neutralised(probe, patch):
        if not _same(probe.predict(probe.pair), probe.logits):
            return "the neutral setting changes the scores"
        return "" if probe.answer(probe.pair) == probe.tokens else "the neutral setting changes the answer"


def _neutralised(probe: Probe, patch: Patch) -> Attached:
    kind: Any = type(patch)
    neutral: Patch = kind.neutral()
    try:
        return neutral.attach(probe.vlm)
    except CannotAttach:
        # fitted to this model by its other settings
        default = kind()
        fields = [one.name for one in dataclasses.fields(kind) if one.init]
        quiet = {n: getattr(neutral, n) for n in fields if getattr(neutral, n) != getattr(default, n)}
        fitted: Patch = kind(**{n: getattr(patch, n) for n in fields} | quiet)
        return fitted.attach(probe.vlm)


def _removed(probe: Probe, patch: Patch) -> str:
    with patch.attach(probe.vlm):
        probe.predict(probe.pair)
    return _restored(probe)


def _after_error(probe: Probe, patch: Patch) -> str:
    try:
        with patch.attach(probe.vlm):
            probe.answer(probe.pair, stop_at=2)
    except Interrupted:
        return _restored(probe)
    return "the answer could not be interrupted"


def _generates(probe: Probe, patch: Patch) -> str:
    with patch.attach(probe.vlm):
        scores = probe.predict(probe.pair)
        if not bool(scores.isfinite().all()):
            return "some scores are not finite"
        steady = probe.answer(probe.pair) == probe.answer(probe.pair)
        if probe.repeats:
            steady = steady and _same(probe.predict(probe.pair), scores)
        return "" if steady else "the same question gets another answer the second time"


def _padded(probe: Probe, patch: Patch) -> str:
    with patch.attach(probe.vlm):
        gap = probe.distance()
        alone = [probe.answer(one)[0] for one in probe.singles]
        allowed = SLACK * probe.gap + 1e-3 * float(probe.logits.abs().max())
        # in half precision a nearly even choice of heads may fall the other way; the words must not change
        coarse = probe.vlm.model.dtype.itemsize < 4
        if gap <= allowed or (coarse and probe.answer(probe.pair) == alone):
            return ""
    return f"a padded batch is {gap:.2g} from single questions, the unpatched model {probe.gap:.2g}"


CHECKS: Mapping[str, Callable[[Probe, Patch], str]] = {
    "neutral": _neutral,
    "removed": _removed,
    "after error": _after_error,
    "generates": _generates,
    "padded batch": _padded,
}
"""Name → a check that says what went wrong, or nothing."""


def _tried(check: Callable[[Probe, Patch], str], probe: Probe, patch: Patch) -> str:
    try:
        said = check(probe, patch)
    except Exception as error:
        said = _told(error)
    unsteady = "" if probe.repeats else " (but the unpatched model does not repeat itself exactly either)"
    return said + unsteady if said else ""


def _restored(probe: Probe) -> str:
    if hung(probe.vlm.model) != probe.hung:
        return "hooks or attention kernels are left behind"
    return (
        "" if _same(probe.predict(probe.pair), probe.logits) else "the scores are not what they were before"
    )


def _same(one: "Tensor", other: "Tensor") -> bool:
    import torch

    return torch.equal(one, other)


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def hung(model: Any) -> dict[str, Any]:
    """Everything that can be left behind on a model: hooks, attributes of ours, attention kernels.

    Args:
        model: A loaded Hugging Face model.
    """
    inner = bare(model)
    left: dict[str, Any] = {"generate": "generate" in vars(inner)}
    for name, part in inner.named_modules():
        kinds = [key for key in vars(part) if key.endswith("_hooks") and getattr(part, key)]
        left |= {f"{name}.{key}": len(getattr(part, key)) for key in kinds}
        left |= {f"{name}.{key}": True for key in vars(part) if key.startswith("_vlmtools")}
        if hasattr(part, "config"):
            left[f"{name}.kernel"] = getattr(part.config, "_attn_implementation", None)
    return left
