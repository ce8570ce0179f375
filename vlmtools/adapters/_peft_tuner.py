"""Any connector or adapter as a tuner of PEFT: `PeftModel` trains, saves, loads, switches off and removes it.

PEFT knows its methods by a closed enumeration; importing this file adds one member to it, `VLMTOOLS`, in the way PEFT's
own methods register. The part itself attaches as everywhere else: no layer of the model is replaced by PEFT's.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from peft import PeftConfig, PeftModel, PeftType, get_peft_model
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from peft.utils import register_peft_method
from torch import Tensor, nn

from vlmtools import registry
from vlmtools.adapters import _files
from vlmtools.adapters._part import Part
from vlmtools.errors import BadInput

NAME = "vlmtools"
PREFIX = f"base_model.model.{NAME}_"
"""Before the names of a part's tensors in PEFT's file."""


def _enumerated(name: str) -> Any:
    """The member of PEFT's enumeration, made where it is not there yet."""
    if name not in PeftType.__members__:
        member: Any = str.__new__(PeftType, name)
        member._name_, member._value_ = name, name
        PeftType._member_map_[name] = PeftType._value2member_map_[name] = member
        PeftType._member_names_.append(name)
        type.__setattr__(PeftType, name, member)
    return PeftType(name)


@dataclass
class PartConfig(PeftConfig):
    """What PEFT writes to `adapter_config.json`.

    Args:
        part: Name of the connector or adapter.
        settings: Its fields.
        places: Where its layers go in the model, once it was attached to one.
    """

    part: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    places: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """PEFT's own checks, and the kind."""
        super().__post_init__()
        self.peft_type = _enumerated(NAME.upper())

    def made(self) -> Part:
        """The part, not attached."""
        kind = registry.load("vlmtools.adapters", self.part, Part)  # type: ignore[type-abstract]
        part = kind(**_files.typed(kind, self.settings))
        if self.places:
            part.build_for(self.places)
        return part


class _Status(nn.Module, BaseTunerLayer):
    """Stands for the part where PEFT asks its layers whether they are on; holds nothing itself."""

    adapter_layer_names: tuple[str, ...] = ()
    other_param_names: tuple[str, ...] = ()
    _disable_adapters: bool = False

    def __init__(self, adapter_name: str) -> None:
        super().__init__()
        self._active_adapter = adapter_name
        self.merged_adapters: list[str] = []


class PartTuner(BaseTuner):
    """Attaches one part to the model; PEFT calls it when a `PeftModel` is made."""

    prefix = f"{NAME}_"
    tuner_layer_cls = Part
    target_module_mapping: dict[str, Any] = {}  # noqa: RUF012 - PEFT reads it from the class

    def inject_adapter(self, model: nn.Module, adapter_name: str, *_: Any, **__: Any) -> None:
        """Attach the part.

        Args:
            model: The Hugging Face model.
            adapter_name: PEFT's name for it.

        Raises:
            BadInput: Another one is on already.
        """
        if len(self.peft_config) > 1:
            raise BadInput(
                f"There is one part to a PeftModel; {adapter_name!r} is the second. Attach further parts to the model "
                "with their own attach()."
            )
        config = self.peft_config[adapter_name]
        self.parts, self.status = [config.made().attach(model)], _Status(adapter_name)
        config.places = self.parts[0].places()
        if config.inference_mode:
            for one in model.parameters():
                one.requires_grad_(False)

    def _create_and_replace(self, *_: Any, **__: Any) -> None:
        """Never called: the part puts itself into the model."""

    def disable_adapter_layers(self) -> None:
        """Take the part out."""
        self.parts[0].detach()
        self.status._disable_adapters = True

    def enable_adapter_layers(self) -> None:
        """Put it in again."""
        if self.parts[0].host is None:
            self.parts[0].attach(self.model)
        self.status._disable_adapters = False

    def set_adapter(self, adapter_name: str | list[str], inference_mode: bool = False) -> None:
        """There is one, and it is on."""

    def unload(self) -> nn.Module:
        """Take the part out and give the model back, as it was."""
        self.parts[0].detach()
        found: nn.Module = self.model
        return found

    def merge_and_unload(self, *_: Any, **__: Any) -> nn.Module:
        """Refused.

        Raises:
            BadInput: Always.
        """
        raise BadInput(
            "A part of vlmtools is no update of weights that could be merged. Call unload() instead."
        )

    @classmethod
    def _get_adapter_state_dict(cls, model: Any, **_: Any) -> dict[str, Tensor]:
        return {f"{PREFIX}{name}": one for name, one in _part(model).tensors().items()}

    @classmethod
    def _remap_adapter_state_dict_for_load(
        cls, model: Any, state_dict: dict[str, Tensor], **_: Any
    ) -> dict[str, Tensor]:
        """Fill the part; nothing is left for PEFT to load."""
        saved = {name.removeprefix(PREFIX): one for name, one in state_dict.items()}
        live = _part(model).tensors()
        if saved.keys() != live.keys():
            raise BadInput(
                f"The file and the part differ in {sorted(saved.keys() ^ live.keys())[0]!r}. Load it into a model of "
                "the architecture it was trained with."
            )
        with torch.no_grad():
            for name, one in live.items():
                one.copy_(saved[name])
        return {}


def _part(model: Any) -> Part:
    found: Part = model.base_model.parts[0]
    return found


def as_peft(part: Part, model: nn.Module) -> PeftModel:
    """A `PeftModel` that trains this part in this model.

    Args:
        part: Not attached; its settings are taken.
        model: The Hugging Face model.
    """
    return get_peft_model(model, PartConfig(part=part.name, settings=_files.settings(part)))


def register() -> None:
    """Make PEFT know the kind; done once, when this file is imported."""
    if not hasattr(BaseTuner, "_remap_adapter_state_dict_for_load"):
        raise BadInput(
            "This PEFT leaves no say to its methods in how they are saved. Install peft 0.21 or newer, or use "
            "save_pretrained of the part itself, which needs no PEFT."
        )
    _enumerated(NAME.upper())
    register_peft_method(name=NAME, config_cls=PartConfig, model_cls=PartTuner)


register()
