"""What `vlmtools crosscheck` does once its options are read: plan, run, show."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from vlmtools.crosscheck.ranking import Ranking
    from vlmtools.crosscheck.run import CrossCheck
    from vlmtools.engine.base import Engine
    from vlmtools.types import Responder, Sample


class Run:
    """One command line: every judge in turn over the same answers, the first one decides the ranking."""

    def __init__(
        self,
        setting: "CrossCheck",
        judges: list[Any],
        responders: "list[Responder]",
        samples: "Sequence[Sample]",
        out: Path | None,
        offline: bool,
        early_stop: bool,
        engine: "Engine",
    ) -> None:
        from dataclasses import replace

        from vlmtools.crosscheck.folder import default_folder

        self.settings = [replace(setting, judge=judge) for judge in judges]
        self.responders, self.samples = responders, samples
        self.offline, self.early_stop, self.engine = offline, early_stop, engine
        self.folder = out or default_folder(self.settings[0], responders, samples)

    def plan(
        self,
        prices: tuple[float, float] | None,
        as_json: bool,
        n_items: int | None,
        tokens_per_s: float | None,
    ) -> None:
        """Say what the run would take.

        Args:
            prices: Of a million tokens each way.
            as_json: Print JSON.
            n_items: Plan for so many items like the given ones; None is the given ones.
            tokens_per_s: Written by one GPU.
        """
        from vlmtools.cli._screen import console, print_json
        from vlmtools.crosscheck.assumed import TOKENS_PER_S
        from vlmtools.crosscheck.plan import make_plan

        speed = tokens_per_s or TOKENS_PER_S
        made = make_plan(self.settings, self.responders, self.samples, self.folder, prices, speed)
        if n_items is not None:
            made = made.times(n_items / len(self.samples))
        if as_json:
            print_json(made.to_json())
        else:
            console().print(made.table())

    def go(self, budget: Any) -> "tuple[Ranking, Path]":
        """Collect, vote, rank, write.

        Args:
            budget: What calls are paid from, or None.
        """
        from vlmtools.cli._screen import progress
        from vlmtools.crosscheck.folder import open_run
        from vlmtools.crosscheck.stopping import run_all
        from vlmtools.report.outputs import write_outputs

        record = {"command": shlex.join(["vlmtools", *sys.argv[1:]])}
        opened = open_run(self.folder, self.settings[0], self.responders)
        with opened as store, self.engine, progress() as told:
            result = run_all(
                self.settings,
                self.responders,
                self.samples,
                store,
                early_stop=self.early_stop,
                budget=budget,
                offline=self.offline,
                progress=told,
                record=record,
                engine=self.engine,
            )
            write_outputs(store, result)
        return result, self.folder


def show(result: "Ranking", folder: Path, as_json: bool) -> None:
    """Print a ranking.

    Args:
        result: The ranking.
        folder: Where its report lies.
        as_json: Print JSON.
    """
    from vlmtools.cli._screen import console, print_json
    from vlmtools.report.terminal import print_ranking

    if as_json:
        print_json(result.to_json())
    else:
        screen: Console = console()
        print_ranking(result, screen, page=folder / "report.html")
