"""When pictures are encoded: adapters that join picture and prompt need both in one forward pass."""

from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

ASKED = "_supports_mm_encoder_outputs"
"""What `generate` asks a model before it encodes pictures by itself, from transformers 5.24 on."""
_ON: "WeakKeyDictionary[nn.Module, int]" = WeakKeyDictionary()


class InForward:
    """Until it is removed, `generate` leaves the host's pictures to the forward pass, as `model(**inputs)` does.

    Left to itself, transformers encodes them before the first pass, when nobody knows the prompt yet: an adapter that
    reads the prompt would do nothing in `generate`, or read the prompt before. Several may be on; order is free.

    Args:
        host: The model.
    """

    def __init__(self, host: nn.Module) -> None:
        self.host: Any = host
        if hasattr(host, ASKED):
            _ON[host] = _ON.get(host, 0) + 1
            setattr(host, ASKED, _no)

    def remove(self) -> None:
        """Give the model its own answer back."""
        if self.host in _ON:
            _ON[self.host] -= 1
            if not _ON[self.host]:
                del _ON[self.host]
                delattr(self.host, ASKED)


def _no() -> bool:
    return False
