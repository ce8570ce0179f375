"""What `score` and `eval` share: asking a judge, printing an evaluation, dumping its rows."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmtools.types import Json

if TYPE_CHECKING:
    from vlmtools.benchmarks._evaluation import Evaluation
    from vlmtools.benchmarks.base import Benchmark
    from vlmtools.engine.base import Engine
    from vlmtools.evaluate.scoring import Judged
    from vlmtools.types import Responder


def judged_by(
    benchmark: "Benchmark",
    judge_model: str | None,
    out: Path | None,
    engine: "Engine | None" = None,
    **model: Any,
) -> "Judged | None":
    """What fills in a judge's verdicts; None when no judge is named.

    Args:
        benchmark: Who asks.
        judge_model: What the user typed.
        out: Folder of the run; verdicts are kept in its folder `judge`.
        engine: Where the judge is asked; None is in this process.
        model: Options of local models and servers.

    Raises:
        BadInput: The benchmark has no judge.
    """
    from vlmtools.evaluate.judging import asking
    from vlmtools.evaluate.planning import JUDGE

    responder = judge_of(benchmark, judge_model, **model)
    if responder is None:
        return None
    folder = (out or Path("runs") / f"judge-{benchmark.name}") / JUDGE
    return asking(benchmark, responder, folder, engine=engine)


def judge_of(benchmark: "Benchmark", judge_model: str | None, **model: Any) -> "Responder | None":
    """The judge, not loaded yet; None when none is named.

    Args:
        benchmark: Who asks.
        judge_model: What the user typed.
        model: Options of local models and servers.

    Raises:
        BadInput: The benchmark has no judge.
    """
    from vlmtools.crosscheck.sources import resolve
    from vlmtools.errors import BadInput

    if judge_model is None:
        return None
    if not benchmark.judge:
        raise BadInput(f"{benchmark.name} is scored by a rule and asks no judge. Leave --judge-model out.")
    return resolve([judge_model], model=model)[0]


def write_dump(path: Path, found: "Evaluation") -> None:
    """One JSON line per answer, whole or not at all."""
    import json

    from vlmtools.store.files import write_whole

    rows = (json.dumps(row.to_json(), ensure_ascii=True) for row in found.rows)
    write_whole(path, "".join(f"{row}\n" for row in rows).encode())


def show(found: "Evaluation", benchmark: "Benchmark", as_json: bool, page: Path | None) -> None:
    """Print the result: JSON with exactly the fields of an evaluation, or a table."""
    from vlmtools.cli._screen import console, print_json

    if as_json:
        print_json(found.to_json())
        return
    from rich.table import Table

    screen = console()
    level = found.record["interval"]["level"]
    table = Table(title=f"{found.bench}, {found.protocol}", title_justify="left")
    table.add_column("metric")
    table.add_column("value", justify="right")
    table.add_column(f"{level:.0%} interval", justify="right")
    for name, metric in found.metrics.items():
        unit = benchmark.units.get(name, benchmark.units.get(name.partition("/")[0], "%"))
        low, high = (_shown(end, unit) for end in metric.ci)
        table.add_row(name, f"{_shown(metric.value, unit)} {unit}", f"{low} to {high}")
    screen.print(table)
    share = found.unparsed / found.n
    screen.print(f"{found.n:,} answers, {found.unparsed:,} of them unparsed ({share:.1%}).")
    screen.print(f"Rule: {found.record['benchmark']['rule']}.")
    for line in control_lines(found.record.get("controls", {})):
        screen.print(line)
    for warning in found.record.get("warnings", []):
        screen.print(f"[yellow]Note:[/yellow] {_plain(warning)}")
    if page is not None:
        screen.print(f"Report: {page}")


def control_lines(controls: Json) -> list[str]:
    """Controls in words, one line each."""
    lines = []
    for name in ("as_printed", "ours", "baseline", "cut_by_words", "cut_by_sentences"):
        if isinstance(controls.get(name), dict):
            values = ", ".join(
                f"{key} {value:.4g}" for key, value in controls[name].items() if "/" not in key
            )
            lines.append(f"{name.replace('_', ' ')}: {values}")
    if isinstance(shown := controls.get("shown"), dict):
        given = ", ".join(f"{kind} {n:,}" for kind, n in shown.items() if kind != "no_answer")
        lines.append(f"Answers by what was shown: {given or 'none'}; {shown['no_answer']:,} items have none.")
    if isinstance(model := controls.get("model"), dict):
        lines += [str(line) for line in model.get("lines", [])]
    return lines


def _shown(value: float, unit: str) -> str:
    if value != value:
        return "undefined"
    return f"{100 * value:.2f}" if unit == "%" else f"{value:.2f}"


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)
