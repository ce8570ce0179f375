"""Samples and answers as spools hold them: any number, few in memory, many in a temporary file."""

from functools import partial

from vlmtools.store.spool import Spool
from vlmtools.types import Answers, Json, Sample


def samples_spool(most: int | None = None) -> Spool[Sample]:
    """By item id; `extra` must hold what JSON can hold.

    Args:
        most: Samples kept in memory.
    """
    return Spool(_fields, _sample, most=most)


def answers_spool(model: str, most: int | None = None) -> Spool[Answers]:
    """One model's answers by item id.

    Args:
        model: Who answered.
        most: Answers kept in memory.
    """
    return Spool(_said, partial(_answers, model), most=most)


def counts() -> Spool[int]:
    """How often each of many names was seen."""
    return Spool(int, _count)


def _fields(sample: Sample) -> Json:
    medium = sample.image, sample.video, sample.audio
    return [sample.prompt, *medium, sample.text, sample.reference, dict(sample.extra)]


def _sample(id: str, fields: Json) -> Sample:
    return Sample(id, *fields)


def _said(answers: Answers) -> Json:
    return [answers.text, answers.samples, answers.modality]


def _answers(model: str, id: str, said: Json) -> Answers:
    text, samples, modality = said
    return Answers(id, model, text, tuple(samples), tuple(modality))


def _count(name: str, n: Json) -> int:
    return int(n)
