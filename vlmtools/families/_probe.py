"""Find the parts of a loaded model by looking at it: decoder, layers, attention, output projections, vision tower.

The rule that covers every family seen so far: inside `get_decoder()`, an attention module is one whose class name
contains "Attention" and that owns a projection whose input is as wide as all heads together.
"""

import importlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from vlmtools import registry
from vlmtools.errors import CannotAttach
from vlmtools.families.base import ModelFamily

PROJECTIONS = ("o_proj", "out_proj", "dense", "proj", "projection", "projection_layer")
"""What the output projection is called, the most common name first."""


@dataclass(frozen=True, slots=True, eq=False)
class Attention:
    """One attention module and its output projection.

    Args:
        layer: Index of the layer it belongs to.
        name: Dotted path from the model.
        module: The module that is handed to the attention function.
        o_proj: The projection whose input holds the heads side by side.
        n_heads: Query heads.
        n_kv_heads: Key/value heads; each serves `n_heads / n_kv_heads` query heads.
        head_dim: Width of one head at the projection's input.
        cross: Reads picture features instead of the token sequence.
    """

    layer: int
    name: str
    module: nn.Module
    o_proj: nn.Module
    n_heads: int
    n_kv_heads: int
    head_dim: int
    cross: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Anatomy:
    """Where the parts of one loaded model are.

    Args:
        model: The whole model.
        family: Facts about its `model_type`; None when no file describes it.
        decoder: The stack of decoder layers, without the language-model head.
        layers: The decoder layers.
        attention: The decoder's attention modules, in order; layers without attention have none.
        vision: The vision tower's attention modules, in order; empty when it has none of the known form.
        image_token_id: What stands for a piece of the picture in `input_ids`; None when unknown.
        video_token_id: What stands for a piece of a video; None where there is none, or frames are pictures.
    """

    model: Any
    family: ModelFamily | None
    decoder: Any
    layers: tuple[nn.Module, ...]
    attention: tuple[Attention, ...]
    vision: tuple[Attention, ...]
    image_token_id: int | None
    video_token_id: int | None = None

    @property
    def visual_ids(self) -> tuple[int, ...]:
        """What stands for a piece of a picture or of a video in `input_ids`."""
        return tuple(one for one in (self.image_token_id, self.video_token_id) if one is not None)

    @property
    def n_heads(self) -> int:
        """Query heads of a decoder layer."""
        return self.attention[0].n_heads

    def frame_ids(self, tokenizer: Any = None) -> tuple[int, ...]:
        """Tokens that frame a picture and go when it goes.

        Args:
            tokenizer: Knows the frames that the configuration does not name; None leaves those out.
        """
        if self.family is None:
            return ()
        ids = [getattr(self.model.config, key, None) for key in self.family.frame_keys]
        known = tokenizer.get_vocab() if tokenizer is not None else {}
        ids += [known.get(token) for token in self.family.frame_tokens]
        return tuple(int(one) for one in ids if one is not None)


def bare(model: Any) -> Any:
    """The Hugging Face model itself, without a PEFT or compile wrapper around it.

    Args:
        model: A loaded model, wrapped or not.
    """
    model = getattr(model, "_orig_mod", model)
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def family_of(config: Any) -> ModelFamily | None:
    """The family file for a configuration, or None when there is none.

    Args:
        config: The model's configuration.
    """
    families = importlib.import_module("vlmtools.families")
    name = str(getattr(config, "model_type", ""))
    if name.replace("-", "_") not in registry.names(families):
        return None
    return registry.load(families, name, ModelFamily)()  # type: ignore[type-abstract]


def anatomy(model: Any, family: ModelFamily | None = None) -> Anatomy:
    """Look at a model and say where its parts are.

    Args:
        model: Any loaded Hugging Face model that generates text.
        family: What is known about its `model_type`; None looks for the family's file.

    Raises:
        CannotAttach: The decoder's attention cannot be found; the message says what was seen and which file to add.
    """
    model = bare(model)
    family = family or family_of(model.config)
    decoder = _decoder(model)
    layers = _layers(decoder)
    found = tuple(_attention(model, decoder, layers)) if decoder is not None else ()
    if not found:
        raise CannotAttach(_report(model, decoder, layers))
    tokens = image_token(model.config), video_token(model.config)
    return Anatomy(model, family, decoder, layers, found, _vision(model), *tokens)


def image_token(config: Any) -> int | None:
    """The token that stands for a piece of the picture.

    Args:
        config: The model's configuration.
    """
    return _token(config, "image")


def video_token(config: Any) -> int | None:
    """The token that stands for a piece of a video.

    Args:
        config: The model's configuration.
    """
    return _token(config, "video")


def _token(config: Any, kind: str) -> int | None:
    for key in (f"{kind}_token_id", f"{kind}_token_index"):
        found = getattr(config, key, None)
        if found is not None:
            return int(found)
    return None


def _decoder(model: Any) -> Any:
    try:
        return model.get_decoder()
    except (AttributeError, ValueError, NotImplementedError):
        return None


def _layers(stack: Any) -> tuple[nn.Module, ...]:
    """The longest list of blocks that hold attention."""
    parts = stack.modules() if stack is not None else ()
    lists = [one for one in parts if isinstance(one, nn.ModuleList) and len(one)]
    holding = [one for one in lists if any(_is_attention(part) for block in one for part in block.modules())]
    longest = sorted(holding, key=len, reverse=True)
    return tuple(longest[0]) if longest else ()


def _is_attention(module: nn.Module) -> bool:
    return "Attention" in type(module).__name__ and _projection(module) is not None


def _projection(module: nn.Module) -> nn.Module | None:
    children = dict(module.named_children())
    for name in PROJECTIONS:
        # quantised and LoRA layers are no nn.Linear, but all know how wide their input is
        if hasattr(children.get(name), "in_features"):
            return children[name]
    return None


def _attention(model: nn.Module, stack: nn.Module, layers: Sequence[nn.Module]) -> Iterator[Attention]:
    names = {id(module): name for name, module in model.named_modules()}
    for index, layer in enumerate(layers):
        for module in layer.modules():
            found = _one(index, names.get(id(module), ""), module) if _is_attention(module) else None
            if found is not None:
                yield found


def _one(layer: int, name: str, module: Any) -> Attention | None:
    o_proj: Any = _projection(module)
    config = getattr(module, "config", None)
    n_heads = _first(module, config, "num_heads", "num_attention_heads", "attention_heads")
    if not n_heads or o_proj.in_features % n_heads:
        return None
    groups = getattr(module, "num_key_value_groups", None)
    n_kv = n_heads // int(groups) if groups else n_heads
    cross = "Cross" in type(module).__name__ or name.endswith("cross_attn")
    return Attention(layer, name, module, o_proj, n_heads, n_kv, o_proj.in_features // n_heads, cross)


def _first(module: Any, config: Any, *keys: str) -> int:
    for holder in (module, config):
        for key in keys:
            found = getattr(holder, key, None)
            if isinstance(found, int):
                return found
    return 0


def _vision(model: Any) -> tuple[Attention, ...]:
    tower = model.get_encoder(modality="image") if hasattr(model, "get_encoder") else None
    if tower is None or tower is model:
        return ()
    return tuple(_attention(model, tower, _layers(tower)))


def _report(model: Any, decoder: Any, layers: Sequence[nn.Module]) -> str:
    kind = str(getattr(model.config, "model_type", type(model).__name__))
    seen = sorted({type(one).__name__ for one in model.modules() if "Attention" in type(one).__name__})
    known = ", ".join(registry.names("vlmtools.families"))
    return (
        f"Cannot find the attention of model_type={kind!r}. Decoder: {type(decoder).__name__ if decoder else 'none'}; "
        f"layers with attention: {len(layers)}; attention classes seen: {', '.join(seen) or 'none'}; expected a child "
        f"named {', '.join(PROJECTIONS)} as wide as all heads. Described so far: {known}. Add "
        f"vlmtools/families/{kind.replace('-', '_')}.py, copying the closest of these."
    )
