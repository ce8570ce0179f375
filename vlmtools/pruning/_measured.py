"""What was measured of a pruner on one model, and tables of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

STAGES = ("prefill", "first_token", "total")
"""What is timed: the language model's pass over the prompt; until the first new token, with encoder and selection; the
whole answer."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times faster than unpruned.

    Args:
        value: Geometric mean over the rounds; 1 is no change.
        low: Lower end of its 95 % interval.
        high: Upper end.
    """

    value: float = 1.0
    low: float = 1.0
    high: float = 1.0

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


@dataclass(frozen=True, slots=True)
class Facts:
    """What is counted once per budget; it does not vary between rounds.

    Args:
        n_prompt: Tokens the language model reads.
        n_visual: Visual ones among them, line ends and separators included.
        flops: Operations of its prefill as counted while it ran; NaN where kernels hide them (4-bit weights).
        flops_theory: The same from its configuration.
        cache_bytes: Of keys and values after the prompt.
        cache_bytes_theory: The same from its configuration.
    """

    n_prompt: int = 0
    n_visual: int = 0
    flops: float = float("nan")
    flops_theory: float = 0.0
    cache_bytes: int = 0
    cache_bytes_theory: int = 0


@dataclass(frozen=True, slots=True)
class Measured:
    """One budget.

    Args:
        way: `all` for the unpruned model, `again` for its repetition, else the `keep` of the pruner.
        facts: Counted once.
        median_ms: Stage → median over the rounds, in milliseconds.
        faster: Stage → how many times faster than `all`; empty for `all`.
    """

    way: str = "all"
    facts: Facts = field(default_factory=Facts)
    median_ms: Mapping[str, float] = field(default_factory=dict)
    faster: Mapping[str, Ratio] = field(default_factory=dict)


def cells(row: Measured) -> list[str]:
    """One line of a table: times in ms, ratios, then operations and cache with their ratio to theory.

    Args:
        row: A budget.
    """
    found = [row.way, str(row.facts.n_visual), str(row.facts.n_prompt)]
    for stage in STAGES:
        found += [f"{row.median_ms[stage]:.1f}", str(row.faster[stage]) if row.faster else ""]
    facts = row.facts
    mib = f"{facts.cache_bytes / 2**20:.2f}", f"{facts.cache_bytes_theory / 2**20:.2f}"
    return [*found, f"{facts.flops / 1e9:.2f}", f"{facts.flops_theory / 1e9:.2f}", *mib]


HEADINGS = (
    "kept", "visual", "prompt", "prefill ms", "faster [95 %]", "first token ms", "faster [95 %]", "answer ms",
    "faster [95 %]", "GFLOP", "theory", "cache MiB", "theory",
)  # fmt: skip
"""Of `cells`."""


def markdown(rows: Sequence[Measured]) -> str:
    """A table for documents.

    Args:
        rows: As `measure` gives them.
    """
    head = [f"| {' | '.join(HEADINGS)} |", f"|{'---|' * len(HEADINGS)}"]
    return "\n".join([*head, *(f"| {' | '.join(cells(row))} |" for row in rows)])


def screen(rows: Sequence[Measured]) -> str:
    """The same table for a terminal.

    Args:
        rows: As `measure` gives them.
    """
    lines = [list(HEADINGS), *(cells(row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEADINGS))]
    return "\n".join(
        "  ".join(one.rjust(width) for one, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
