"""Keys of servers: read from the environment anew for every call, sent only where they belong, kept nowhere."""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from vlmtools.errors import ServerError

KEY_ENV = "VLMTOOLS_API_KEY"
KEYS_BY_HOST = {
    "openai.com": "OPENAI_API_KEY",
    "huggingface.co": "HF_TOKEN",
    "huggingface.cloud": "HF_TOKEN",
    "hf.space": "HF_TOKEN",
}
"""Variables that are read only for the host they were made for."""


@dataclass(frozen=True)
class Keys:
    """Where the key of a server is found.

    Args:
        named: Environment variable that the user named; empty means VLMTOOLS_API_KEY, or that of the host.
    """

    named: str = ""

    def variable(self, where: str) -> str:
        """The variable that holds the key for an address; empty when none is set.

        Args:
            where: The address.
        """
        if self.named:
            return self.named
        host = urlsplit(where).hostname or ""
        made_for = [
            var for domain, var in KEYS_BY_HOST.items() if host == domain or host.endswith(f".{domain}")
        ]
        return next((variable for variable in (KEY_ENV, *made_for) if os.environ.get(variable)), "")

    def headers(self, where: str) -> dict[str, str]:
        """What is sent along to an address.

        Args:
            where: The address.

        Raises:
            ServerError: The key cannot be put into a header.
        """
        key = self._key(where)
        if not re.fullmatch(r"[\x21-\x7e]*", key):
            raise ServerError(
                f"The key in {self.variable(where)} holds blanks or odd characters. Set it anew."
            )
        return {"Accept": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}

    def scrubbed(self, text: str, places: Iterable[str]) -> str:
        """A text in which no key stands.

        Args:
            text: What a server said.
            places: Addresses whose keys may stand in it.
        """
        for where in places:
            key = self._key(where)
            text = text.replace(key, "[key]") if len(key) >= 4 else text
        return text

    def _key(self, where: str) -> str:
        return os.environ.get(self.variable(where) or KEY_ENV, "").strip()
