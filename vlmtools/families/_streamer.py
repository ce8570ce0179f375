"""Shows an answer while it is written, piece by piece, so that the pieces together are exactly the answer."""

from collections.abc import Callable
from typing import Any

from torch import Tensor


class Streamer:
    """What `generate` of transformers hands new tokens to.

    Held back until more is known: an unfinished character, and white space, which the end of an answer loses.

    Args:
        decode: From all token ids so far to the text so far.
        show: Receives each new piece; never an empty one.
    """

    def __init__(self, decode: Callable[[list[int]], str], show: Callable[[str], object]) -> None:
        self.decode, self.show = decode, show
        self.ids: list[int] = []
        self.shown = ""
        self.knows_prompt = False

    def put(self, value: Tensor) -> None:
        """Called with the prompt first, then with every new token.

        Args:
            value: Token ids of one row.
        """
        if not self.knows_prompt:
            self.knows_prompt = True
            return
        self.ids += value.flatten().tolist()
        self._show(self.decode(self.ids).rstrip("\ufffd").strip())

    def end(self) -> None:
        """Called after the last token: what was held back is part of the answer now."""
        self._show(self.decode(self.ids).strip())

    def _show(self, text: str) -> None:
        # what is on the screen stays: some tokenizers take a piece back when the next token comes
        if text.startswith(self.shown) and len(text) > len(self.shown):
            self.show(text[len(self.shown) :])
            self.shown = text


def decoder(tokenizer: Any) -> Callable[[list[int]], str]:
    """From token ids to text, without special tokens and with spaces as the tokens have them.

    Args:
        tokenizer: Of the model.
    """

    def decode(ids: list[int]) -> str:
        text: str = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text

    return decode
