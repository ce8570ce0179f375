"""Which model exactly: the commit of a hub model, or a digest of a folder's content."""

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

from vlmtools.errors import BadInput

SMALL_BYTES = 64 * 2**20
"""Files up to this size are read whole."""
SAMPLE_BYTES = 4096
"""Of larger weights, so much is read at the start, in the middle and at the end of every tensor."""
_DECIDES = {".json", ".txt", ".jinja", ".model", ".py", ".safetensors", ".tiktoken"}
_COMMIT = re.compile(r"[0-9a-f]{40}")


def revision_of(name_or_path: str, revision: str | None = None, *, offline: bool = False) -> str:
    """The commit of a hub model, or `sha256:…` of a folder, without loading anything.

    A commit that is already on this machine is taken; only otherwise, and only when not offline, the hub is
    asked.

    Args:
        name_or_path: Hub name or folder.
        revision: Branch, tag or commit of a hub model; a full commit is believed as it is.
        offline: Never reach the network.

    Raises:
        BadInput: There is no such folder, and no such hub model here or on the hub.
    """
    folder = Path(name_or_path).expanduser()
    if folder.is_dir():
        return f"sha256:{folder_digest(folder)}"
    if revision and _COMMIT.fullmatch(revision):
        return revision
    return _cached_commit(name_or_path, revision) or _hub_commit(name_or_path, revision, offline)


def folder_digest(folder: Path) -> str:
    """SHA-256 over every file that decides an answer: settings, tokenizer, code and weights.

    Weights over `SMALL_BYTES` are sampled in every tensor, so that a fine-tuned copy of equal shape and size
    differs.
    """
    total = hashlib.sha256()
    for path in sorted(path for path in folder.iterdir() if path.suffix in _DECIDES and path.is_file()):
        total.update(f"{path.name}\0{path.stat().st_size}\0".encode())
        for block in _blocks(path):
            total.update(block)
    return total.hexdigest()


def _blocks(path: Path) -> Iterator[bytes]:
    if path.suffix == ".safetensors" and path.stat().st_size > SMALL_BYTES:
        yield from _sampled(path)
        return
    with path.open("rb") as file:
        while block := file.read(2**20):
            yield block


def _sampled(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = file.read(min(length, 100 * 2**20))
        yield header
        for start, end in _places(header, 8 + length):
            for place in (start, (start + end) // 2, max(start, end - SAMPLE_BYTES)):
                file.seek(place)
                yield file.read(min(SAMPLE_BYTES, end - place))


def _places(header: bytes, offset: int) -> list[tuple[int, int]]:
    try:
        tensors = [value for key, value in json.loads(header).items() if key != "__metadata__"]
        return sorted((offset + t["data_offsets"][0], offset + t["data_offsets"][1]) for t in tensors)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(
            f"A safetensors file has a broken header ({error}). Copy or download the model again."
        ) from None


def _cached_commit(name: str, revision: str | None) -> str | None:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        path = try_to_load_from_cache(name, "config.json", revision=revision)
    except HFValidationError:
        raise BadInput(_nowhere(name, "is neither a folder nor a possible hub name")) from None
    return Path(path).parent.name if isinstance(path, str) else None


def _hub_commit(name: str, revision: str | None, offline: bool) -> str:
    from huggingface_hub import hf_hub_download

    if offline:
        raise BadInput(_nowhere(name, "is no folder and has not been downloaded to this machine"))
    try:
        return Path(hf_hub_download(name, "config.json", revision=revision)).parent.name
    except (OSError, ValueError) as error:
        raise BadInput(_nowhere(name, f"cannot be reached ({type(error).__name__})")) from error


def _nowhere(name: str, why: str) -> str:
    return (
        f"The model {name!r} {why}. Give an existing folder, download the model first (hf download {name}), or, "
        "to read stored answers without it, name its full commit as the revision."
    )
