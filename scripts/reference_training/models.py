"""What learns: the tower alone, or a whole model with two helping losses on its vision side."""

from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from reference_training.batches import IGNORED, Batch, Packer, looked_at
from reference_training.build import N_PATCHES, config, processor, tokenizer
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

    def save_processor(self, folder: Path) -> None:
        """What turns pictures and text into tensors."""
        processor(self.words).save_pretrained(folder)


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
        shown = self.patch_head(seen[-2][:, 1:]).flatten(0, 1)
        image = functional.binary_cross_entropy_with_logits(self.image_head(seen[-1][:, 0]), batch.present)
        return {"patch": functional.cross_entropy(shown, batch.patches.flatten()), "image": image * 4}


class Answering(Learner):
    """Answers; and, as a helping loss, that a visual token looks like the word for what it shows."""

    before, after, n_image_tokens = "<s>USER: ", "\n", N_PATCHES

    def __init__(self, stage: Stage, model: Any, words: Any) -> None:
        super().__init__(stage, model, words)
        self.scale, self.background = nn.Parameter(torch.tensor(10.0)), nn.Parameter(torch.tensor(0.0))
        token = model.config.image_token_id
        self.packer = Packer(words, token, self.n_image_tokens, self.before, self.after)
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

    def looking(self, batch: Batch) -> tuple[Any, Any, dict[str, Any]]:
        """Visual tokens (batch, image_token, dim), which thing each shows, further losses."""
        raise NotImplementedError

    def decoder(self) -> Any:
        """The language model."""
        return self.model.model.language_model

    def forward(self, batch: Batch) -> dict[str, Any]:
        """All losses."""
        visual, shown, further = self.looking(batch)
        return {
            "answer": self._answers(batch, visual),
            "word": self._words_seen(visual, shown) * 0.3,
            **further,
        }

    def _answers(self, batch: Batch, visual: Any) -> Any:
        n = self.n_before
        embedded = self.model.get_input_embeddings()(batch.ids)
        embedded = torch.cat([embedded[:, :n], visual, embedded[:, n + visual.shape[1] :]], 1)
        hidden = self.decoder()(
            inputs_embeds=embedded, attention_mask=batch.mask, position_ids=batch.positions, use_cache=False
        ).last_hidden_state
        asked = batch.labels[:, 1:] != IGNORED
        logits = self.model.lm_head(hidden[:, :-1][asked])
        loss = functional.cross_entropy(logits, batch.labels[:, 1:][asked], reduction="none")
        weight = batch.weight[:, 1:][asked]
        return (loss * weight).sum() / weight.sum()

    def _words_seen(self, visual: Any, shown: Any) -> Any:
        names = functional.normalize(self.model.get_input_embeddings().weight[self.names], dim=-1)
        likeness = self.scale * functional.normalize(visual, dim=-1) @ names.T
        nothing = self.background.expand(*likeness.shape[:-1], 1)
        return functional.cross_entropy(torch.cat([nothing, likeness], -1).flatten(0, 1), shown.flatten())


class LlavaLearner(Answering):
    """CLIP tower with a class token that goes on learning what is there."""

    def __init__(self, stage: Stage, model: Any, words: Any) -> None:
        super().__init__(stage, model, words)
        self.image_head = nn.Linear(model.config.vision_config.hidden_size, len(THINGS))

    def looking(self, batch: Batch) -> tuple[Any, Any, dict[str, Any]]:
        """Features of the last layer but one through the connector; the class token names the things."""
        inner = self.model.model
        seen = inner.vision_tower(batch.pixel_values, output_hidden_states=True).hidden_states
        image = functional.binary_cross_entropy_with_logits(self.image_head(seen[-1][:, 0]), batch.present)
        return inner.multi_modal_projector(seen[-2][:, 1:]), batch.patches, {"image": image}


def opened(stage: Stage, out: Path) -> Learner:
    """The learner of a stage with the weights it starts from."""
    from transformers import AutoTokenizer, LlavaForConditionalGeneration

    if stage.kind == "tower":
        words = tokenizer()
        return TowerLearner(stage, LlavaForConditionalGeneration(config(words)), words)
    words = AutoTokenizer.from_pretrained(out / stage.start)
    model = LlavaForConditionalGeneration.from_pretrained(out / stage.start, dtype=torch.float32)
    if stage.kind == "idefics3":
        from reference_training.idefics import IdeficsLearner, rebuilt

        return IdeficsLearner(stage, *rebuilt(model, words))
    _keep_layers(model, stage.vision_layers)
    return LlavaLearner(stage, model, words)


def _keep_layers(model: Any, n_layers: int) -> None:
    tower = model.model.vision_tower
    encoder = getattr(tower, "vision_model", tower).encoder
    encoder.layers = encoder.layers[:n_layers]
    model.config.vision_config.num_hidden_layers = len(encoder.layers)


def saved(learner: Learner, folder: Path) -> None:
    """The model as hub models lie there: configuration, safetensors, tokenizer, processor."""
    learner.model.to(torch.float32).eval().save_pretrained(folder)
    learner.save_processor(folder)
