"""Load a processor, also where its video half cannot be built because torchvision is missing.

Without torchvision transformers has no video processor at all, so the processors of Qwen-VL, SmolVLM,
InternVL, LLaVA-OneVision and others fail to load although pictures need nothing of the kind. Here the video
half is one written on Pillow where there is one (`_pillow_video`), else a stand-in that says so when it is used; the
picture half is the Pillow one.
"""

import contextlib
import importlib
import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vlmtools.errors import BadInput, NotInstalled
from vlmtools.families._pillow_video import PillowVideo, pillow_video
from vlmtools.video import Frames

CONFIG_FILES = ("processor_config.json", "preprocessor_config.json", "tokenizer_config.json")
"""Where a checkpoint names its processor class, in the order they are asked."""


class NoVideo:
    """Stands where the video half of a processor would be."""

    num_frames = fps = valid_kwargs = None

    def __init__(self, why: str) -> None:
        self.why = why

    def __call__(self, *_args: object, **_kwargs: object) -> Any:
        """Always raises."""
        raise NotInstalled(
            f"The video half of this processor could not be built: {self.why}. Give pictures only."
        )

    def to_dict(self) -> dict[str, str]:
        """Nothing to save."""
        return {}


def load_processor(name_or_path: str, config: Any, **hub: Any) -> Any:
    """The processor of a checkpoint, or its tokenizer when it has no other.

    Args:
        name_or_path: Folder or hub name.
        config: The model's configuration, already loaded.
        hub: `revision`, `local_files_only`, `trust_remote_code`, as `from_pretrained` takes them.

    Raises:
        BadInput: Neither the usual loader nor the one without video works.
    """
    from transformers import AutoProcessor

    try:
        processor = AutoProcessor.from_pretrained(name_or_path, config=config, **hub)
        if not _lost_its_pictures(processor, config):
            return processor
        problem: Exception = ValueError("only the tokenizer could be loaded")
    except (ImportError, ValueError, OSError, TypeError, AttributeError, KeyError) as error:
        problem = error
    try:
        return _without_video(processor_class(name_or_path, config, **hub), name_or_path, problem, **hub)
    except (ImportError, ValueError, OSError, TypeError, AttributeError, KeyError, LookupError) as error:
        raise BadInput(
            f"The processor of {name_or_path!r} cannot be loaded: {_one_line(problem)}; without its video "
            f"half: {_one_line(error)}. Install the package the message names, or build the processor yourself "
            "and pass it: VLM.wrap(model, processor)."
        ) from error


def takes_images(processor: Any) -> bool:
    """True when the processor prepares pictures."""
    return getattr(processor, "image_processor", None) is not None


def takes_video(processor: Any) -> bool:
    """True when the processor prepares videos, by itself or with the half written here."""
    return not isinstance(getattr(processor, "video_processor", None), NoVideo | None)


def video_on_pillow(processor: Any) -> bool:
    """True when videos are prepared by the half written here, for want of torchvision."""
    return isinstance(getattr(processor, "video_processor", None), PillowVideo)


def processor_class(name_or_path: str, config: Any, **hub: Any) -> type[Any]:
    """The class the checkpoint names for its processor, or the one transformers pairs with the model.

    Raises:
        LookupError: Neither is known.
    """
    import transformers
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

    named = class_name(name_or_path, **hub)
    if named and hasattr(transformers, named):
        found: type[Any] = getattr(transformers, named)
        return found
    if type(config) in PROCESSOR_MAPPING:
        paired: type[Any] = PROCESSOR_MAPPING[type(config)]
        return paired
    raise LookupError(f"transformers has no processor for {named or type(config).__name__}")


def class_name(name_or_path: str, **hub: Any) -> str:
    """The processor class a checkpoint's own files name, or nothing."""
    named = (_content(name_or_path, file, **hub).get("processor_class") for file in CONFIG_FILES)
    return str(next(filter(None, named), ""))


def _content(name_or_path: str, file: str, **hub: Any) -> dict[str, Any]:
    """What a JSON file of the checkpoint says; nothing when it has no such file."""
    import json
    from pathlib import Path

    from transformers.utils import cached_file

    quiet = {
        f"_raise_exceptions_for_{what}": False
        for what in ("missing_entries", "connection_errors", "gated_repo")
    }
    known = {key: hub[key] for key in ("revision", "local_files_only") if key in hub}
    path = cached_file(name_or_path, file, **known, **quiet)
    content: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8")) if path else {}
    return content


def _video_settings(name_or_path: str, **hub: Any) -> dict[str, Any]:
    """What the checkpoint says of its video half, looked for where transformers looks and in its order."""
    nested = _content(name_or_path, "processor_config.json", **hub).get("video_processor")
    if nested:
        return dict(nested)
    files = ("video_preprocessor_config.json", "preprocessor_config.json")
    return next(filter(None, (_content(name_or_path, file, **hub) for file in files)), {})


def _lost_its_pictures(processor: Any, config: Any) -> bool:
    # AutoProcessor quietly hands out the bare tokenizer when it can build nothing else
    return hasattr(config, "vision_config") and not takes_images(processor)


def _without_video(cls: type[Any], name_or_path: str, why: Exception, **hub: Any) -> Any:
    settings, _ = cls.get_processor_dict(name_or_path, **hub)
    parts = {name: _part(cls, name, name_or_path, why, settings, **hub) for name in cls.get_attributes()}
    accepted = inspect.signature(cls.__init__).parameters
    rest = {key: value for key, value in settings.items() if key in accepted and key not in parts}
    with _num2words_not_needed(cls):
        return _tolerant(cls)(**parts, **rest)


def _part(
    cls: type[Any], name: str, name_or_path: str, why: Exception, settings: Mapping[str, Any], **hub: Any
) -> Any:
    from transformers import AutoFeatureExtractor, AutoImageProcessor, AutoTokenizer

    if "video" in name:
        return pillow_video(cls.__name__, _video_settings(name_or_path, **hub)) or NoVideo(_one_line(why))
    if name == "image_processor":
        return AutoImageProcessor.from_pretrained(name_or_path, **hub)
    if name == "tokenizer":
        return AutoTokenizer.from_pretrained(name_or_path, **hub)
    if name in ("feature_extractor", "audio_processor"):
        return AutoFeatureExtractor.from_pretrained(name_or_path, **hub)
    raise LookupError(
        f"{cls.__name__} needs a part {name!r} that is not loaded here; it has {', '.join(settings)}"
    )


def _tolerant(cls: type[Any]) -> type[Any]:
    """A subclass that lets the stand-in pass the type check and is otherwise the class itself."""

    def check(self: Any, argument_name: str, argument: object) -> Any:
        if isinstance(argument, NoVideo | PillowVideo):
            return type(argument)
        return cls.check_argument_for_proper_class(self, argument_name, argument)

    names = {"check_argument_for_proper_class": check, "__module__": cls.__module__, "__doc__": cls.__doc__}
    # get_attributes reads the signature of __init__, which a subclass shares
    return type(cls.__name__, (cls,), names)


@contextlib.contextmanager
def _num2words_not_needed(cls: type[Any]) -> Iterator[None]:
    """SmolVLM asks for num2words on construction but spells out frame counts of videos only."""
    module = importlib.import_module(cls.__module__)
    if getattr(module, "num2words", ...) is not None:
        yield
        return
    module.num2words = str  # type: ignore[attr-defined]
    try:
        yield
    finally:
        module.num2words = None  # type: ignore[attr-defined]


def _one_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__


def as_videos(videos: Sequence[Frames]) -> dict[str, Any]:
    """Clips as processors take them: frames already chosen, with the times they were taken from.

    Args:
        videos: One per prompt.
    """
    import numpy as np

    told = [
        {
            "total_num_frames": clip.n_total,
            "fps": clip.fps,
            "duration": clip.duration_s,
            "frames_indices": list(clip.indices),
        }
        for clip in videos
    ]
    chosen = {"do_sample_frames": False, "video_metadata": told}
    return {
        "videos": [np.stack([np.asarray(image) for image in clip.images]) for clip in videos],
        "videos_kwargs": chosen,
    }
