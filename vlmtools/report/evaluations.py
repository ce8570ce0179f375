"""Several evaluations beside each other: one table per benchmark, as a page or as Markdown; nothing is tested here."""

from collections.abc import Sequence
from dataclasses import dataclass

from vlmtools.benchmarks._evaluation import Metric
from vlmtools.compare.runs import Loaded, distinct, settings_that_differ
from vlmtools.report.evaluation import head
from vlmtools.report.html import _environment


@dataclass(frozen=True)
class Beside:
    """The runs of one benchmark under one rule.

    Args:
        bench: The benchmark.
        protocol: The rule.
        runs: The runs, in the order given.
    """

    bench: str = ""
    protocol: str = ""
    runs: tuple[Loaded, ...] = ()

    @property
    def metrics(self) -> list[str]:
        """Names of all metrics that any run has, in order."""
        return list(dict.fromkeys(name for run in self.runs for name in run.found.metrics))

    def cells(self, metric: str) -> list[Metric | None]:
        """One value per run; None where a run does not have it."""
        return [run.found.metrics.get(metric) for run in self.runs]


def beside(runs: Sequence[Loaded]) -> list[Beside]:
    """Runs by benchmark and rule: numbers by different rules never stand in one table.

    Args:
        runs: At least one.
    """
    groups: dict[tuple[str, str], list[Loaded]] = {}
    for run in distinct(runs):
        groups.setdefault((run.found.bench, run.found.protocol), []).append(run)
    return [Beside(*key, tuple(group)) for key, group in groups.items()]


def html(runs: Sequence[Loaded], *, title: str = "") -> str:
    """The page. The same runs always give the same text; everything models wrote is escaped.

    Args:
        runs: What to show.
        title: Heading; empty for one made from the runs.
    """
    named = distinct(runs)
    values = {
        **head(title or f"{len(named)} evaluations"),
        "groups": beside(runs),
        "runs": [run.name for run in named],
        "settings": settings_that_differ(named),
    }
    return _environment().get_template("evaluations.html.j2").render(values)


def markdown(runs: Sequence[Loaded]) -> str:
    """One table per benchmark, values with half the width of their interval.

    Args:
        runs: What to show.
    """
    return "\n".join(_table(group) for group in beside(runs))


def _table(group: Beside) -> str:
    heads = [f"{_plain(run.name)} (n={run.found.n:,})" for run in group.runs]
    lines = [f"### {group.bench}, {group.protocol}", "", f"| metric | {' | '.join(heads)} |",
             f"|---|{'---|' * len(heads)}"]  # fmt: skip
    for metric in group.metrics:
        cells = (_cell(value) for value in group.cells(metric))
        lines.append(f"| {metric} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(metric: Metric | None) -> str:
    if metric is None:
        return ""
    return f"{metric.value:.4g} ({metric.ci[0]:.4g} to {metric.ci[1]:.4g})"


def _plain(name: str) -> str:
    return name.replace("|", "\\|").replace("\n", " ")
