"""Several vision encoders, one connector each, and attention between them, before any causal language model.

Reference: arXiv:2507.22805.
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vlmtools.adapters._hga import group_attention
from vlmtools.adapters._mocha_towers import PAPER_TOWERS, Tower
from vlmtools.adapters.base import Connector
from vlmtools.errors import BadInput

INDEX = "mocha.json"


class MochaModel(nn.Module):
    """A vision-language model made of frozen encoders, connectors, group attention and a causal language model.

    Args:
        language_model: Any causal language model of transformers.
        towers: The encoders, in the order of their tokens; referred to, never saved.
        connector: Copied for each encoder, with its width; None stands for connectors given in `connectors`.
        connectors: One per encoder.
        image_token_id: What stands for one visual token in the prompt; the prompt holds `n_image_tokens` of them.
        group: Let tokens of different encoders exchange what is alike.
        k: Neighbours per token in that.
    """

    def __init__(
        self,
        language_model: nn.Module,
        towers: Sequence[Tower],
        connector: Connector | None = None,
        connectors: Sequence[Connector] = (),
        image_token_id: int = 0,
        group: bool = True,
        k: int = 10,
    ) -> None:
        super().__init__()
        self.language_model: Any = language_model
        self.towers, self.group, self.k, self.image_token_id = tuple(towers), group, k, image_token_id
        made = connectors or _copies(connector, towers, self.width)
        if len(made) != len(towers):
            raise BadInput(f"There are {len(towers)} encoders and {len(made)} connectors. Give one for each.")
        like = next(self.language_model.parameters())
        self.connectors = nn.ModuleList(made).to(like.device, like.dtype)
        self.stage(1)

    @classmethod
    def from_names(
        cls,
        connector: Connector,
        language_model: str = "microsoft/phi-2",
        towers: Sequence[str] = PAPER_TOWERS,
        **settings: Any,
    ) -> Self:
        """Load encoders and language model from the hub or from folders.

        Args:
            connector: Copied for each encoder.
            language_model: Name or folder.
            towers: Names or folders; vision models are taken out of two-tower checkpoints.
            settings: As of the class.
        """
        from transformers import AutoModel, AutoModelForCausalLM

        encoders = [AutoModel.from_pretrained(name) for name in towers]
        vision = [Tower(getattr(one, "vision_model", one)) for one in encoders]
        return cls(AutoModelForCausalLM.from_pretrained(language_model), vision, connector, **settings)

    @property
    def width(self) -> int:
        """Of the language model."""
        return int(self.language_model.get_input_embeddings().weight.shape[1])

    def stage(self, number: int) -> Self:
        """Choose what trains: 1 the connectors only, 2 the language model too. Encoders never do.

        Args:
            number: 1 or 2.
        """
        for tower in self.towers:
            tower.module.requires_grad_(False).eval()
        self.language_model.requires_grad_(number == 2)
        return self

    def visual_tokens(
        self, pixels: Float[Tensor, "batch channel y x"]
    ) -> Float[Tensor, "batch image_token dim"]:
        """What all encoders saw, as tokens of the language model.

        Args:
            pixels: The picture, the same for every encoder.
        """
        parts = [self._connected(i, pixels) for i in range(len(self.towers))]
        tokens = torch.cat(parts, 1)
        if not self.group:
            return tokens
        sizes = torch.tensor([part.shape[1] for part in parts], device=tokens.device)
        groups = torch.arange(len(parts), device=tokens.device).repeat_interleave(sizes)
        return group_attention(tokens.float(), groups, self.k).y.to(tokens.dtype)

    def n_image_tokens(self, pixels: Float[Tensor, "batch channel y x"]) -> int:
        """How many image tokens a prompt with this picture holds.

        Args:
            pixels: The picture.
        """
        return sum(tower.features(pixels[:1]).shape[1] for tower in self.towers)

    def embeds(self, input_ids: Int[Tensor, "batch seq"], pixels: Tensor | None) -> Tensor:
        """The prompt with the visual tokens in place.

        Args:
            input_ids: The prompt.
            pixels: One picture per row, or None.

        Raises:
            BadInput: The prompt holds another number of image tokens than the encoders give.
        """
        words: Tensor = self.language_model.get_input_embeddings()(input_ids)
        if pixels is None:
            return words
        visual, places = self.visual_tokens(pixels).to(words.dtype), input_ids == self.image_token_id
        if not bool((places.sum(1) == visual.shape[1]).all()):
            raise BadInput(
                f"The prompts hold {places.sum(1).tolist()} image tokens, the encoders give {visual.shape[1]}. Write "
                f"token {self.image_token_id} n_image_tokens(pixels) times."
            )
        return torch.masked_scatter(words, places[..., None], visual)

    def forward(self, input_ids: Tensor, pixel_values: Tensor | None = None, **inputs: Any) -> Any:
        """As the language model; in training, `loss` contains the connectors' auxiliary losses.

        Args:
            input_ids: The prompt.
            pixel_values: One picture per row, or None.
            inputs: What the language model takes besides.
        """
        output = self.language_model(inputs_embeds=self.embeds(input_ids, pixel_values), **inputs)
        if self.training and pixel_values is not None and output.get("loss") is not None:
            output["loss"] = output["loss"] + self.aux_loss().to(output["loss"])
        return output

    def generate(self, input_ids: Tensor, pixel_values: Tensor | None = None, **options: Any) -> Any:
        """New tokens, as the language model generates them.

        Args:
            input_ids: The prompt.
            pixel_values: One picture per row, or None.
            options: Of the language model's `generate`.
        """
        with torch.no_grad():
            embeds = self.embeds(input_ids, pixel_values)
        mask = options.pop("attention_mask", torch.ones_like(input_ids))
        return self.language_model.generate(inputs_embeds=embeds, attention_mask=mask, **options)

    def aux_loss(self) -> Tensor:
        """Sum of the weighted auxiliary losses over the encoders, of the latest forward pass."""
        return torch.stack([_connector(one).aux_loss() for one in self.connectors]).sum()

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the connectors, one folder each, and which encoder each belongs to.

        Args:
            folder: Made if absent.
        """
        where = Path(folder)
        for i, connector in enumerate(self.connectors):
            _connector(connector).save_pretrained(where / str(i))
        facts = {"towers": [tower.kind for tower in self.towers], "group": self.group, "k": self.k}
        text = json.dumps({**facts, "image_token_id": self.image_token_id}, indent=1)
        (where / INDEX).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def from_pretrained(cls, folder: str | Path, language_model: nn.Module, towers: Sequence[Tower]) -> Self:
        """Load the connectors between the same encoders and language model.

        Args:
            folder: What `save_pretrained` wrote.
            language_model: The one they were trained with.
            towers: The encoders, in the same order.

        Raises:
            BadInput: The folder is none of ours, or the encoders are others.
        """
        from vlmtools.adapters.base import load

        where = Path(folder)
        if not (where / INDEX).is_file():
            raise BadInput(f"{where} has no {INDEX}. Give the folder that MochaModel.save_pretrained wrote.")
        facts = json.loads((where / INDEX).read_text(encoding="utf-8"))
        kinds = [tower.kind for tower in towers]
        if facts.pop("towers") != kinds:
            raise BadInput(
                f"{where} was trained with other encoders than {', '.join(kinds)}; see its {INDEX}."
            )
        connectors = [_connector(load(where / str(i))) for i in range(len(kinds))]
        return cls(language_model, towers, connectors=connectors, **facts)

    def _connected(self, i: int, pixels: Tensor) -> Tensor:
        connector = self.connectors[i]
        features = self.towers[i].features(pixels)
        tokens: Tensor = connector(features.to(next(connector.parameters()).dtype))
        return tokens


def _connector(part: Any) -> Connector:
    if not isinstance(part, Connector):
        raise BadInput(f"{type(part).__name__} is no Connector. See `vlmtools list adapters`.")
    return part


def _copies(connector: Connector | None, towers: Sequence[Tower], width: int) -> list[Connector]:
    if connector is None:
        raise BadInput("MochaModel needs a connector. Give Mocha(), or connectors=[…], one per encoder.")
    return [dataclasses.replace(connector, d_in=tower.width, d_out=width) for tower in towers]
