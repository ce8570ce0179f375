"""Questions about pictures with their answers: from lines of a file to tensors that a model learns from."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from vlmtools.errors import BadInput, MissingField
from vlmtools.media import load_image
from vlmtools.vlm import VLM

FIELDS = ("image", "question", "answer")
IGNORED = -100
"""The label of positions whose prediction does not count."""


class Rows(Dataset[dict[str, str]]):
    """Rows of a JSONL file, their pictures as paths.

    Args:
        path: The file.
    """

    def __init__(self, path: str | Path) -> None:
        where = Path(path)
        lines = [line for line in where.read_text(encoding="utf-8").splitlines() if line.strip()]
        self.rows = [_row(json.loads(line), where, number) for number, line in enumerate(lines, 1)]
        if not self.rows:
            raise BadInput(f"{where} has no rows. Write one JSON object per line with {', '.join(FIELDS)}.")

    def __len__(self) -> int:
        """How many."""
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, str]:
        """One row."""
        return self.rows[index]


def _row(row: Any, where: Path, number: int) -> dict[str, str]:
    missing = [name for name in FIELDS if not isinstance(row, dict) or not isinstance(row.get(name), str)]
    if missing:
        raise MissingField(
            f"{where}, row {number} has no text under {missing[0]!r}. Each row needs {', '.join(FIELDS)}."
        )
    image = Path(row["image"])
    return {
        **{name: row[name] for name in FIELDS},
        "image": str(image if image.is_absolute() else where.parent / image),
    }


@dataclass(frozen=True)
class Collate:
    """Rows → tensors: the prompt as the model reads it, padded on the left, the answer after it.

    Args:
        vlm: Knows its template, its processor and its tokenizer.
    """

    vlm: VLM

    def __call__(self, rows: Sequence[Mapping[str, str]]) -> dict[str, Tensor]:
        """One batch; labels are the answers, and −100 elsewhere."""
        images = [load_image(row["image"]) for row in rows]
        prompts = [self.vlm.chat(row["question"], with_image=True) for row in rows]
        asked = {name: one.cpu() for name, one in self.vlm.inputs(prompts, images).items()}
        answers = [
            answer_ids(self.vlm, row["question"], text, row["answer"])
            for row, text in zip(rows, prompts, strict=True)
        ]
        width, pad = max(map(len, answers)), self.vlm.tokenizer.pad_token_id
        written = torch.tensor([ids + [pad] * (width - len(ids)) for ids in answers])
        present = torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids in answers])
        batch = {name: _longer(one, asked["input_ids"], width) for name, one in asked.items()}
        n_prompt = asked["input_ids"].shape[1]
        batch["input_ids"][:, n_prompt:] = written
        batch["attention_mask"][:, n_prompt:] = present
        batch["labels"] = torch.full_like(batch["input_ids"], IGNORED)
        batch["labels"][:, n_prompt:] = written.masked_fill(present == 0, IGNORED)
        return batch


def _longer(one: Tensor, like: Tensor, n_more: int) -> Tensor:
    """Room for the answer in whatever has one number per token."""
    if one.shape != like.shape:
        return one
    return torch.nn.functional.pad(one, (0, n_more))


def answer_ids(vlm: VLM, question: str, prompt: str, answer: str) -> list[int]:
    """The answer's tokens as the model has learned to write them, and the end of the text.

    A tokenizer reads "No." and " No." as other words; which of them follows the prompt, the chat template says.

    Args:
        vlm: The model.
        question: What is asked.
        prompt: The question as the model reads it.
        answer: The answer in plain words.
    """
    text = between(vlm, question, prompt, answer) + answer

    def ids(written: str) -> list[int]:
        return list(vlm.tokenizer(written, add_special_tokens=False)["input_ids"])

    before, both = ids(prompt), ids(prompt + text)
    # some tokenizers put a space before whatever they are given: read the answer where it stands
    found = both[len(before) :] if both[: len(before)] == before else ids(text)
    return [*found, vlm.tokenizer.eos_token_id]


def between(vlm: VLM, question: str, prompt: str, answer: str) -> str:
    """What the chat template writes between the prompt and an answer; without one, a space where there is none yet.

    Args:
        vlm: The model.
        question: What is asked.
        prompt: The question as the model reads it.
        answer: The answer in plain words.
    """
    asked = [{"type": "image"}, {"type": "text", "text": question}]
    turns = [
        {"role": "user", "content": asked},
        {"role": "assistant", "content": [asked[1] | {"text": answer}]},
    ]
    try:
        whole = vlm.processor.apply_chat_template(turns, tokenize=False)
    except Exception:  # templates raise what they like, and many models have none
        whole = ""
    rest = whole.removeprefix(prompt)
    if rest != whole and answer in rest:
        return str(rest[: rest.index(answer)])
    return "" if prompt[-1:].isspace() else " "
