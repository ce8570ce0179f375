"""Put any backbone in front of a language model: a LLaVA-style model whose tower, connector and token count you choose.

    python scripts/build_vlm.py --backbone smt_t --language path/to/llama --tokens 49 --out runs/smt-llama
    python scripts/build_vlm.py --backbone nat_tiny --checkpoint nat.pth --level -2 --connector linear --language …

The language model is a local folder of a Llama-like causal model. The tower gives the map of one stage (`--level`),
pooled to `--tokens` where that is asked; the connector turns it into as many tokens. The result is a
`LlavaForConditionalGeneration` of transformers, so patches, training loops and `generate` work on it; its connector is
not trained yet, so it knows nothing of pictures. `load(folder)` in this file brings a saved one back.

Expected: the number of parameters of each part, and the folder with `build.json`, `config.json` and the weights.
"""

import argparse
import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vlmtools import backbones, registry
from vlmtools.adapters.base import Connector
from vlmtools.backbones.base import Backbone
from vlmtools.errors import BadInput

BUILD, WEIGHTS = "build.json", "model.safetensors"


@dataclass(frozen=True)
class Plan:
    """What is built; written beside the weights.

    Args:
        backbone: A variant of `vlmtools list backbones`.
        arguments: Further constructor arguments of the backbone.
        level: Stage whose map is read, negative ones from the end.
        tokens: Image tokens, a square number; 0 takes as many as the map has positions.
        size: Side of the pictures in pixels.
        connector: `mlp` or `linear`, or another connector that works token by token.
        image_token_id: The token whose places the picture takes; the first one after the language model's own.
    """

    backbone: str = "smt_t"
    arguments: dict[str, Any] = field(default_factory=dict)
    level: int = -1
    tokens: int = 0
    size: int = 224
    connector: str = "mlp"
    image_token_id: int = 0


class Tower(nn.Module):
    """A backbone that gives one sequence of tokens per picture, as LLaVA reads it.

    Args:
        backbone: Its classifier is taken off.
        level: Stage whose map is read, negative ones from the end.
        tokens: How many tokens, a square number; 0 keeps the map as it is.

    Raises:
        BadInput: No such stage, or `tokens` is not a square.
    """

    def __init__(self, backbone: Backbone, level: int = -1, tokens: int = 0) -> None:
        super().__init__()
        if tokens < 0 or math.isqrt(tokens) ** 2 != tokens:
            raise BadInput(f"tokens is {tokens}. A map is pooled to a square: give 1, 4, 9, 16, … or 0.")
        backbone.reset_classifier(0)
        (self.level,), self.side = backbone.stage_indices([level]), math.isqrt(tokens)
        self.backbone, self.width = backbone, int(str(backbone.feature_info[self.level]["num_chs"]))

    def features(
        self, pictures: Float[Tensor, "batch channel height width"]
    ) -> Float[Tensor, "batch patch dim"]:
        """Tokens of the chosen stage.

        Args:
            pictures: Normalised as the backbone wants them.
        """
        found = self.backbone.forward_intermediates(
            pictures, [self.level], norm=True, stop_early=True, intermediates_only=True
        )[0]
        pooled = F.adaptive_avg_pool2d(found, self.side) if self.side else found
        return pooled.flatten(2).transpose(1, 2)

    def forward(self, pixel_values: Tensor, **_: Any) -> Any:
        """What LLaVA expects of its tower.

        Args:
            pixel_values: Pictures.
        """
        from transformers.modeling_outputs import BaseModelOutputWithPooling

        tokens = self.features(pixel_values.to(next(self.parameters()).dtype))
        return BaseModelOutputWithPooling(last_hidden_state=tokens, hidden_states=(tokens,))


def build(plan: Plan, language: Any, checkpoint: Path | None = None) -> Any:
    """The model: a fresh connector between the backbone and the language model, whose weights are taken over.

    Args:
        plan: What to build; `image_token_id` 0 adds a token to the language model.
        language: A causal language model of transformers; it becomes part of the result.
        checkpoint: Weights of the backbone; None leaves them random.

    Raises:
        BadInput: Something in the plan does not exist.
    """
    if not plan.image_token_id:
        language.resize_token_embeddings(language.config.vocab_size + 1, mean_resizing=False)
        plan = Plan(**{**asdict(plan), "image_token_id": language.config.vocab_size - 1})
    backbone = backbones.create(
        plan.backbone,
        pretrained=checkpoint is not None,
        checkpoint=checkpoint,
        num_classes=0,
        **plan.arguments,
    )
    if not isinstance(backbone, Backbone):  # features_only is not among the arguments of a plan
        raise BadInput("features_only is no argument of a plan. Choose the stage with level.")
    return assemble(plan, backbone, language)


def assemble(plan: Plan, backbone: Backbone, language: Any) -> Any:
    """The model out of a backbone that is there already.

    Args:
        plan: What to build; its backbone is not looked at.
        backbone: Its classifier is taken off.
        language: A causal language model of transformers; it becomes part of the result.
    """
    tower = Tower(backbone, plan.level, plan.tokens)
    return _joined(plan, tower, _connector(plan, tower.width, language), language)


def n_image_tokens(model: Any) -> int:
    """How many image tokens a picture takes in the prompt.

    Args:
        model: What `build` gave.
    """
    plan, tower = model.plan, model.model.vision_tower
    if plan.tokens:
        return int(plan.tokens)
    with torch.no_grad():
        first = next(tower.parameters())
        channels = plan.arguments.get("in_chans", 3)
        picture = torch.zeros(1, channels, plan.size, plan.size, dtype=first.dtype, device=first.device)
        return int(tower.features(picture).shape[1])


def save(model: Any, folder: Path) -> None:
    """Write everything that `load` needs.

    Args:
        model: What `build` gave.
        folder: Made where it is not there.
    """
    from safetensors.torch import save_model

    folder.mkdir(parents=True, exist_ok=True)
    model.model.language_model.config.save_pretrained(folder)
    (folder / BUILD).write_text(json.dumps(asdict(model.plan), indent=2) + "\n", encoding="utf-8")
    save_model(model, str(folder / WEIGHTS))


def load(folder: Path) -> Any:
    """The model that `save` wrote.

    Args:
        folder: Where it is.

    Raises:
        BadInput: No such model there.
    """
    from safetensors.torch import load_model
    from transformers import AutoConfig, AutoModelForCausalLM

    if not (folder / BUILD).is_file():
        raise BadInput(f"{str(folder)!r} has no {BUILD}. Give a folder that scripts/build_vlm.py wrote.")
    plan = Plan(**json.loads((folder / BUILD).read_text(encoding="utf-8")))
    language = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
    model = build(plan, language)
    load_model(model, str(folder / WEIGHTS))
    return model


def _connector(plan: Plan, width: int, language: Any) -> nn.Module:
    kind: Any = registry.load("vlmtools.adapters", plan.connector, Connector)
    made: nn.Module = kind(d_in=width, d_out=language.config.hidden_size)
    return made


def _joined(plan: Plan, tower: Tower, connector: nn.Module, language: Any) -> Any:
    from transformers import CLIPVisionConfig, LlavaConfig, LlavaForConditionalGeneration

    config = LlavaConfig(
        # stands where LLaVA wants a tower of its own; the tower takes its place below
        vision_config=CLIPVisionConfig(
            hidden_size=8,
            intermediate_size=8,
            num_hidden_layers=1,
            num_attention_heads=1,
            image_size=32,
            patch_size=32,
        ),
        text_config=language.config,
        image_token_index=plan.image_token_id,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
    )
    model: Any = LlavaForConditionalGeneration(config)
    like = next(language.parameters())
    model.model.vision_tower, model.model.multi_modal_projector = tower, connector
    model.model.language_model, model.lm_head = language.model, language.lm_head
    model.generation_config = language.generation_config
    model.plan = plan
    return model.to(like.device, like.dtype).eval()


def main() -> None:
    """Build and save what the command line asks for."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--backbone", default="smt_t", help="a variant of `vlmtools list backbones`")
    parser.add_argument("--checkpoint", type=Path, help="weights of the backbone")
    parser.add_argument("--language", required=True, type=Path, help="folder of a causal language model")
    parser.add_argument("--connector", default="mlp", help="mlp or linear")
    parser.add_argument("--level", type=int, default=-1, help="stage, negative ones from the end")
    parser.add_argument(
        "--tokens", type=int, default=0, help="image tokens, a square number; 0: all positions"
    )
    parser.add_argument("--size", type=int, default=224, help="side of the pictures in pixels")
    parser.add_argument("--out", required=True, type=Path, help="folder to write")
    given = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(given.language, local_files_only=True)
    language = AutoModelForCausalLM.from_pretrained(given.language, local_files_only=True)
    tokenizer.add_tokens(["<image>"], special_tokens=True)
    language.resize_token_embeddings(max(len(tokenizer), language.config.vocab_size))
    plan = Plan(
        backbone=given.backbone, level=given.level, tokens=given.tokens, size=given.size, connector=given.connector,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
    )  # fmt: skip
    model = build(plan, language, given.checkpoint)
    save(model, given.out)
    tokenizer.save_pretrained(given.out)
    for name in ("vision_tower", "multi_modal_projector", "language_model"):
        part = getattr(model.model, name)
        print(f"{name:<24}{sum(one.numel() for one in part.parameters()):>16,} parameters")
    print(f"{n_image_tokens(model)} image tokens per picture; written to {given.out}")


if __name__ == "__main__":
    main()
