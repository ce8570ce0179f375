"""Read a stored run of a released HiPrune program on a tiny Qwen2.5-VL, under whatever names its parts were stored.

One case is every `NAMEe2eREST.json` and `.safetensors` of a folder that begin alike. Weights are found by the name of
the word embedding, everything else by the end of its name; where something is not found, every name is listed.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from golden_cases import tensors
from places import find_all, golden_roots
from torch import Tensor

EMBEDDING = ("model.language_model.embed_tokens", "language_model.model.embed_tokens", "model.embed_tokens")
"""Of the language model, as transformers called it from one release to the next."""
INPUTS = {
    "input_ids": ("input_ids", "ids"),
    "pixel_values": ("pixel_values", "pixels"),
    "image_grid_thw": ("image_grid_thw", "grid_thw"),
}
"""Input → what it may be called."""


class Unreadable(AssertionError):
    """The layout is not understood."""


@dataclass(frozen=True, eq=False)
class Case:
    """One stored run.

    Args:
        config: Of the model.
        weights: By name, without what they were filed under.
        named: Everything else: full name → tensor, number, text, or list.
    """

    config: Mapping[str, Any]
    weights: Mapping[str, Tensor]
    named: Mapping[str, Any]

    def find(self, *ends: str, needed: bool = True, several: bool = False) -> Any:
        """What is stored under one of these names, or one that begins or ends so; the first that is found counts.

        Args:
            ends: Last parts of names, most telling first.
            needed: Fail when there is none.
            several: Whether it has more than one number.

        Raises:
            Unreadable: There is none.
        """
        fitting = {_last(name): one for name, one in self.named.items() if _is_several(one) == several}
        for end in ends:
            if end in fitting:
                return fitting[end]
        for end in ends:
            for name, value in fitting.items():
                if name.endswith(end) or name.startswith(end):
                    return value
        if needed:
            raise Unreadable(
                f"Nothing is called {' or '.join(ends)}. There are, besides {len(self.weights)} weights: "
                f"{', '.join(self.named)}. Add the name to {Path(__file__).name}."
            )
        return None

    def tensor(self, *ends: str) -> Tensor:
        """The same as a tensor."""
        found = self.find(*ends, several=True)
        return found if isinstance(found, Tensor) else torch.tensor(found)

    @property
    def inputs(self) -> dict[str, Tensor]:
        """Of the prompt, with the kinds of tokens that later releases ask for."""
        found = {name: self.tensor(*ends) for name, ends in INPUTS.items()}
        found["input_ids"] = found["input_ids"].long().reshape(1, -1)
        mask = self.find("attention_mask", needed=False, several=True)
        given = torch.ones_like(found["input_ids"]) if mask is None else torch.as_tensor(mask)
        found["attention_mask"] = given.long().reshape(1, -1)
        found["image_grid_thw"] = found["image_grid_thw"].long().reshape(-1, 3)
        found["mm_token_type_ids"] = (found["input_ids"] == self.image_token).long()
        found["pixel_values"] = found["pixel_values"].reshape(-1, found["pixel_values"].shape[-1])
        return found

    @property
    def image_token(self) -> int:
        """The token that stands for a piece of a picture: most of the prompt."""
        common = int(self.tensor(*INPUTS["input_ids"]).flatten().long().mode().values)
        return int(self.config.get("image_token_id", common))

    @property
    def kept(self) -> list[int]:
        """Ascending places in the prompt that stay, text included."""
        found, ids = (
            self.tensor("kept", "keep_mask", "kept_indices", "keep", "mask_kept", "selected"),
            self.inputs,
        )
        image = (ids["input_ids"][0] == self.image_token).nonzero()[:, 0]
        found = found.flatten()
        flags = found.dtype == torch.bool or (len(found) > 2 and set(found.tolist()) == {0, 1})
        places = found.nonzero()[:, 0] if flags else found.long()
        n = len(found) if flags else int(places.max()) + 1
        if flags and len(found) not in (len(image), ids["input_ids"].shape[1]):
            raise Unreadable(f"{len(found)} flags fit neither {len(image)} image tokens nor the prompt.")
        whole = (
            len(found) == ids["input_ids"].shape[1] if flags else n > len(image) or len(places) > len(image)
        )
        if whole:
            return places.tolist()
        text = (ids["input_ids"][0] != self.image_token).nonzero()[:, 0]
        return torch.cat([text, image[places]]).sort().values.tolist()

    @property
    def retention(self) -> float:
        """Share of the picture's tokens that was asked for; where it is not stored, the program's default that fits."""
        found = self.find("retention", "retention_ratio", "ratio", "keep_ratio", needed=False)
        if isinstance(found, float):
            return found
        ids = self.inputs["input_ids"][0]
        n = int((ids == self.image_token).sum())
        stay = len(self.kept) - len(ids) + n
        return min(
            (0.334, 0.223, 0.112), key=lambda share: (round(share * n) < stay, round(share * n) - stay)
        )


def stored_runs() -> list[Any]:
    """`pytest.param(files)` for every stored run, or one skip with the reason."""
    found: dict[Path, list[Path]] = {}
    for ending in ("json", "safetensors"):
        for path in find_all(golden_roots(), f"hiprune/*e2e*.{ending}"):
            found.setdefault(path.with_name(path.name.partition("e2e")[0] + "e2e"), []).append(path)
    cases = [pytest.param(tuple(files), id=stem.name) for stem, files in found.items()]
    reason = "no hiprune/*e2e*.json under $VLMTOOLS_GOLDEN, ../shared/golden or tests/golden"
    return cases or [pytest.param((), marks=pytest.mark.skip(reason=reason), id="none found")]


def read_case(files: tuple[Path, ...]) -> Case:
    """Weights, configuration and the rest.

    Args:
        files: JSON and safetensors of one run.

    Raises:
        Unreadable: There are no weights or no configuration.
    """
    held = {
        name: one for path in files if path.suffix == ".safetensors" for name, one in tensors(path).items()
    }
    told = [json.loads(path.read_text(encoding="utf-8")) for path in files if path.suffix == ".json"]
    config = next((found for each in told for one in _dicts(each) if (found := _config(one))), None)
    prefix = next(
        (
            name.partition(end)[0]
            for end in EMBEDDING
            for name in held
            if end in name and name.endswith(".weight")
        ),
        None,
    )
    if config is None or prefix is None:
        names = [name for each in told for name, _ in _leaves(each)] + list(held)
        raise Unreadable(
            f"No {'vision_config' if config is None else 'embed_tokens.weight'} in {', '.join(map(str, files))}. There "
            f"are: {', '.join(names)}. Teach {Path(__file__).name} this layout."
        )
    weights = {name.removeprefix(prefix): one for name, one in held.items() if _is_weight(name, prefix)}
    rest: dict[str, Any] = {name: one for name, one in held.items() if not _is_weight(name, prefix)}
    for each in told:
        rest |= {name: value for name, value in _leaves(each) if "vision_config" not in name}
    return Case(config, weights, rest)


def _config(given: dict[str, Any]) -> dict[str, Any] | None:
    """A configuration of the model, whose halves may be called after what they describe."""
    if "vision_config" in given:
        return given
    if isinstance(given.get("vision"), dict) and isinstance(given.get("text"), dict):
        return {**given, "vision_config": given["vision"], "text_config": given["text"]}
    return None


def _is_several(value: Any) -> bool:
    return value.numel() > 1 if isinstance(value, Tensor) else isinstance(value, list)


def _is_weight(name: str, prefix: str) -> bool:
    parts = ("model.", "visual.", "lm_head.", "language_model.")
    return name.startswith(prefix) and name.removeprefix(prefix).startswith(parts)


def _last(name: str) -> str:
    return name.replace("/", ".").rpartition(".")[2]


def _dicts(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for one in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _dicts(one)


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Numbers, texts and lists of numbers with their full names; lists of records are gone through."""
    if isinstance(value, dict):
        for key, one in value.items():
            yield from _leaves(one, f"{name}.{key}" if name else key)
    elif isinstance(value, list) and any(isinstance(one, dict) for one in value):
        for i, one in enumerate(value):
            yield from _leaves(one, f"{name}.{i}" if name else str(i))
    else:
        yield name, value


def rows_of(logits: Tensor) -> Tensor:
    """(row, vocabulary) of logits in any shape.

    Args:
        logits: As stored.
    """
    return logits.float().reshape(math.prod(logits.shape[:-1]), logits.shape[-1])
