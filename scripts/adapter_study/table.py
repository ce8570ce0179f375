"""What came out, as Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

from adapter_study.answering import METRICS

HEAD = (
    "| part | trained | step, ms | loss on unseen lessons | CHAIR_i | recall | accuracy | words | checks |",
    "|---|---|---|---|---|---|---|---|---|",
)
EQUAL = (
    "| part | trained | LoRA, trained | CHAIR_i, part minus LoRA | recall | accuracy |",
    "|---|---|---|---|---|---|",
)


def table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown: what each part changed, what it does beside a LoRA of its size, and what could not be attached.

    Args:
        results: Label → what is known of the part.
    """
    done = [found for found in results.values() if "refused" not in found]
    refused = [f"* `{found['part']}`: {found['refused']}" for found in results.values() if "refused" in found]
    beside = [found for found in done if "equal" in found]
    return "\n".join(
        [*HEAD, *map(_line, done)]
        + (["", *EQUAL, *map(_beside, beside)] if beside else [])
        + (["", "Not attached:", "", *refused] if refused else [])
    )


def _line(found: Mapping[str, Any]) -> str:
    start, end = mean(found["loss"]["start"]), mean(found["loss"]["end"])
    failed = [name for name, held in found["checks"].items() if not held]
    changes, step = found["changes"], found["seconds"]
    return _row(
        f"`{found['part']}`" + (f" ({found['note']})" if found["note"] else ""),
        f"{found['n_trained']:,}",
        "" if step is None else f"{step * 1e3:.0f}",
        f"{mean(found['loss']['bare']):.3f} → {start:.3f} → {end:.3f}",
        *(f"{changes[metric]['value_b']:.3f} ({_gap(changes[metric])})" for metric in METRICS),
        f"{changes['Len']['value_b']:.1f}",
        "failed: " + ", ".join(failed) if failed else "all hold",
    )


def _beside(found: Mapping[str, Any]) -> str:
    equal = found["equal"]
    cells = [_gap(equal["changes"][metric]) for metric in METRICS]
    return _row(f"`{found['label']}`", f"{found['n_trained']:,}", f"{equal['n_trained']:,}", *cells)


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _gap(test: Mapping[str, Any]) -> str:
    low, high = test["ci"]
    star = "*" if test.get("p_holm", 1.0) < 0.05 else ""
    return f"{test['difference']:+.3f} [{low:+.3f}, {high:+.3f}]{star}"


def mean(numbers: Sequence[float]) -> float:
    """The plain mean.

    Args:
        numbers: At least one.
    """
    return sum(numbers) / len(numbers)
