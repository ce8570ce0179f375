"""What learns: the tower alone, or a whole model with two helping losses on its vision side."""

from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from reference_training.batches import IGNORED, Batch, Packer, looked_at
from reference_training.build import IMAGE_TOKEN, N_PATCHES, config, processor, tokenizer
from reference_training.stages import Stage
from vlmtools.reference.world import THINGS, Scene

N_CLASSES = len(THINGS) + 1


class Learner(nn.Module):
    """A model, and how a stage makes it learn."""

    def __init__(self, stage: Stage, model: Any, words: Any) -> None:
        super().__init__()
        self.stage, self.model, self.words = stage, model, words

    def batch(self, scenes: list[Scene], draw: Random) -> Batch:
        """Tensors of the scenes."""
        raise NotImplementedError


class TowerLearner(Learner):
    """Which thing does each patch show, and which things are there at all?"""

    def __init__(self, stage: Stage, model: Any, words: Any) -> None:
        super().__init__(stage, model, words)
        width = model.config.vision_config.hidden_size
        self.patch_head, self.image_head = nn.Linear(width, N_CLASSES), nn.Linear(width, len(THINGS))

    def batch(self, scenes: list[Scene], draw: Random) -> Batch:
        """Pictures alone."""
        return looked_at(scenes)

    def forward(self, batch: Batch) -> dict[str, Any]:
        """Both losses."""
        seen = self.model.model.vision_tower(batch.pixel_values, output_hidden_states=True).hidden_states
        return {
            "patch": functional.cross_entropy(
                self.patch_head(seen[-2][:, 1:]).flatten(0, 1), batch.patches.flatten()
            ),
            "image": functional.binary_cross_entropy_with_logits(
                self.image_head(seen[-1][:, 0]), batch.present
            )
            * 4,
        }


class LlavaLearner(Learner):
    """Answers; and, as helping losses, that a visual token looks like the word for what it shows."""

    def __init__(self, stage: Stage, model: Any, words: Any) -> None:
        super().__init__(stage, model, words)
        self.scale, self.background = nn.Parameter(torch.tensor(10.0)), nn.Parameter(torch.tensor(0.0))
        self.image_head = nn.Linear(model.config.vision_config.hidden_size, len(THINGS))
        token = model.config.image_token_id
        self.packer = Packer(words, token, N_PATCHES, "<s>USER: ", "\n")
        self.n_before = self.packer.prefix.index(token)
        ids = [words(f" {name}", add_special_tokens=False)["input_ids"][0] for name in THINGS]
        self.register_buffer("names", torch.tensor(ids))

    def batch(self, scenes: list[Scene], draw: Random) -> Batch:
        """All turns of the scenes, some with their picture hidden."""
        batch = self.packer.pack(scenes, self.stage.annotator, draw)
        for index in range(len(scenes)):
            if draw.random() < self.stage.blind:
                batch.pixel_values[index], batch.patches[index], batch.present[index] = 0.0, 0, 0.0
        return batch

    def forward(self, batch: Batch) -> dict[str, Any]:
        """The three losses."""
        inner = self.model.model
        seen = inner.vision_tower(batch.pixel_values, output_hidden_states=True).hidden_states
        visual = inner.multi_modal_projector(seen[-2][:, 1:])
        return {
            "answer": self._answers(batch, visual),
            "word": self._words_seen(visual, batch.patches) * 0.3,
            "image": functional.binary_cross_entropy_with_logits(
                self.image_head(seen[-1][:, 0]), batch.present
            ),
        }

    def _answers(self, batch: Batch, visual: Any) -> Any:
        inner, n = self.model.model, self.n_before
        embedded = inner.get_input_embeddings()(batch.ids)
        embedded = torch.cat([embedded[:, :n], visual, embedded[:, n + visual.shape[1] :]], 1)
        hidden = inner.language_model(
            inputs_embeds=embedded, attention_mask=batch.mask, position_ids=batch.positions, use_cache=False
        ).last_hidden_state
        asked = batch.labels[:, 1:] != IGNORED
        logits = self.model.lm_head(hidden[:, :-1][asked])
        loss = functional.cross_entropy(logits, batch.labels[:, 1:][asked], reduction="none")
        weight = batch.weight[:, 1:][asked]
        return (loss * weight).sum() / weight.sum()

    def _words_seen(self, visual: Any, patches: Any) -> Any:
        names = functional.normalize(self.model.get_input_embeddings().weight[self.names], dim=-1)
        likeness = self.scale * functional.normalize(visual, dim=-1) @ names.T
        nothing = self.background.expand(*likeness.shape[:-1], 1)
        return functional.cross_entropy(torch.cat([nothing, likeness], -1).flatten(0, 1), patches.flatten())


def opened(stage: Stage, out: Path) -> Learner:
    """The learner of a stage with the weights it starts from."""
    from transformers import LlavaForConditionalGeneration

    if stage.kind == "tower":
        words = tokenizer()
        return TowerLearner(stage, LlavaForConditionalGeneration(config(words)), words)
    from transformers import AutoTokenizer

    words = AutoTokenizer.from_pretrained(out / stage.start)
    model = LlavaForConditionalGeneration.from_pretrained(out / stage.start, dtype=torch.float32)
    if stage.vision_layers < model.config.vision_config.num_hidden_layers:
        _shallower(model, stage.vision_layers)
    return LlavaLearner(stage, model, words)


def _shallower(model: Any, n_layers: int) -> None:
    tower = model.model.vision_tower
    encoder = getattr(tower, "vision_model", tower).encoder
    encoder.layers = encoder.layers[:n_layers]
    model.config.vision_config.num_hidden_layers = n_layers


def saved(learner: Any, stage: Stage, folder: Path) -> None:
    """The model as hub models lie there: configuration, half-precision safetensors, tokenizer, processor."""
    model = learner.model
    model.to(torch.float32).eval().save_pretrained(folder)
    processor(learner.words).save_pretrained(folder)
    assert IMAGE_TOKEN in learner.words.get_vocab()  # noqa: S101
