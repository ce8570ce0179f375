"""`vt.crosscheck`: one call from sources to a ranking."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from vlmtools.crosscheck.budget import Budget
from vlmtools.crosscheck.collect import Draws, Progress, silent
from vlmtools.crosscheck.folder import default_folder, open_run, write_ranking
from vlmtools.crosscheck.ranking import Ranking
from vlmtools.crosscheck.run import CrossCheck
from vlmtools.crosscheck.sources import Source, items_of, judge_by_name, resolve
from vlmtools.engine.base import Engine
from vlmtools.engine.spec import open_engine
from vlmtools.errors import BadInput
from vlmtools.responders.items import Items, items_from_images, read_items
from vlmtools.types import Decoding, Responder, Sample


def crosscheck(
    sources: Sequence[Source],
    *,
    items: str | Path | Sequence[Sample] | None = None,
    images: str | None = None,
    prompt: str = "",
    out: str | Path | None = None,
    n_samples: int = 0,
    decoding: Decoding | None = None,
    budget: Budget | None = None,
    offline: bool = False,
    progress: Progress = silent,
    fields: Mapping[str, str] | None = None,
    model: Mapping[str, Any] | None = None,
    judge_model: Source | None = None,
    engine: Engine | str = "local",
    **settings: Any,
) -> Ranking:
    """Rank sources by hallucination.

    Args:
        sources: Files of recorded answers, run folders, hub ids or model folders, `server:MODEL@URL`,
            responders; any mix.
        items: Item file or samples; None takes the items of the recorded files.
        images: A glob of pictures, instead of `items`.
        prompt: The question for every picture of `images`, and for items without one.
        out: Run folder; running again with the same folder resumes. None keeps everything in `runs/`.
        n_samples: Stochastic answers drawn per item from models and servers.
        decoding: Of the scored answers; greedy by default.
        budget: Limit on calls, tokens, time or money.
        offline: Replay what is stored, ask nothing.
        progress: Told how far each stage is.
        fields: Column names of recorded files (`id_field`, `text_field`, …).
        model: Options of models and servers (`quant`, `batch_size`, `concurrency`, …).
        judge_model: The model or server behind judges that need one.
        engine: Where the calls are made: `local`, `ray`, `ray:ADDRESS`, or an `Engine` (docs/scale.md).
        settings: Fields of `CrossCheck`.

    Returns:
        The ranking; the run folder also holds the answers, the votes and ranking.json, from which `vlmtools report`
        writes report.html and the tables.
    """
    responders = resolve(sources, fields=fields, model=model)
    samples = load_samples(responders, items, images, prompt)
    draws = Draws(scored=decoding or Decoding(), n_samples=n_samples)
    setting = CrossCheck(**{"draws": draws, **settings})
    if isinstance(setting.judge, str):
        looks = None if judge_model is None else resolve([judge_model], model=model)[0]
        setting = replace(setting, judge=judge_by_name(setting.judge, responder=looks))
    folder = Path(out) if out is not None else default_folder(setting, responders, samples)
    made = open_engine(engine) if isinstance(engine, str) else nullcontext(engine)
    with made as maker, open_run(folder, setting, responders) as store:
        result = setting.run(
            responders, samples, store, budget=budget, offline=offline, progress=progress, engine=maker
        )
        write_ranking(store, result)
    return result


def load_samples(
    responders: Sequence[Responder],
    items: str | Path | Sequence[Sample] | None = None,
    images: str | None = None,
    prompt: str = "",
) -> Sequence[Sample]:
    """The items of a run, from a file, a glob, or the recorded sources; any number, unless they come as a list.

    Raises:
        BadInput: Both an item file and a glob, or nothing to ask about.
    """
    if items is not None and images is not None:
        raise BadInput("Give either --items or --images, not both.")
    if images is not None:
        return items_from_images(images, prompt)
    settled = partial(_settled, prompt)
    if items is None:
        return items_of(responders).change(settled)
    if isinstance(items, str | Path):
        return read_items(items).change(settled)
    if isinstance(items, Items):
        return Items(map(settled, items))
    return [settled(sample) for sample in items]


def _settled(prompt: str, sample: Sample) -> Sample:
    """With a question, and media by absolute path, so that a run folder finds its pictures from anywhere."""
    new: dict[str, Any] = {
        kind: str(Path(where).absolute())
        for kind, where in sample.media
        if not where.startswith(("data:", "http:", "https:")) and Path(where).is_file()
    }
    if prompt and not sample.prompt:
        new["prompt"] = prompt
    return (
        replace(sample, **new)
        if any(getattr(sample, name) != value for name, value in new.items())
        else sample
    )
