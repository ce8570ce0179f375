"""What came out, as Markdown."""

from collections.abc import Mapping
from typing import Any

METRICS = ("CHAIRi", "Recall", "accuracy")


def table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown: one line per part, then the parts that could not be attached.

    Args:
        results: Part → what `one` gives.
    """
    lines = [
        "| part | trained | step, ms | loss | CHAIR_i | recall | accuracy | checks |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [_line(found) for found in results.values() if "refused" not in found]
    refused = [f"* `{found['part']}`: {found['refused']}" for found in results.values() if "refused" in found]
    return "\n".join(lines + (["", "Not attached:", "", *refused] if refused else []))


def _line(found: Mapping[str, Any]) -> str:
    first, last = found["loss"]
    failed = [name for name, held in found["checks"].items() if not held]
    step = "" if found["seconds"] is None else f"{found['seconds'] * 1e3:.0f}"
    return "| " + " | ".join(
        [
            f"`{found['part']}`" + (f" ({found['note']})" if found["note"] else ""),
            f"{found['n_trained']:,}",
            step,
            f"{first:.3f} → {last:.3f}",
            *(_change(found["changes"][metric]) for metric in METRICS),
            "failed: " + ", ".join(failed) if failed else "all hold",
        ]
    ) + " |"  # fmt: skip


def _change(test: Mapping[str, Any]) -> str:
    low, high = test["ci"]
    return f"{test['value_b']:.3f} ({test['difference']:+.3f} [{low:+.3f}, {high:+.3f}])"
