"""One number for a method that was measured on several tasks, each with several metrics, as the CAB benchmark has it.

Reference: CAB, ICML 2023, arXiv:2210.07661; Shark-NLP/CAB, compositional_index.py.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from vlmtools.errors import BadInput


def standardised(
    scores: Float[np.ndarray, " metric"],
    mean: Float[np.ndarray, " metric"],
    spread: Float[np.ndarray, " metric"],
    sign: Float[np.ndarray, " metric"],
) -> Float[np.ndarray, " metric"]:
    """Each metric in standard deviations above the mean of the known methods; higher is better for every metric.

    Args:
        scores: Of one method.
        mean: Of the known methods.
        spread: Their standard deviation, above 0.
        sign: 1 where a higher score is better, −1 where a lower one is.

    Raises:
        BadInput: The arrays differ in length, or a metric did not vary.
    """
    if not len(scores) == len(mean) == len(spread) == len(sign):
        lengths = len(scores), len(mean), len(spread), len(sign)
        raise BadInput(f"scores, mean, spread and sign have lengths {lengths}. Give one of each per metric.")
    if np.any(spread <= 0):
        raise BadInput("A metric with the same value for every known method says nothing. Leave it out.")
    return np.asarray(sign * (scores - mean) / spread)


def compositional_index(
    z: Float[np.ndarray, " metric"], tasks: Mapping[str, Sequence[int]]
) -> tuple[dict[str, float], float]:
    """Mean inside each task, and the mean over tasks.

    Args:
        z: What `standardised` gave.
        tasks: Task → positions of its metrics.
    """
    per_task = {name: float(np.mean(z[list(columns)])) for name, columns in tasks.items()}
    return per_task, float(np.mean(list(per_task.values())))


def efficiency_length(quadratic: tuple[float, float, float], linear: tuple[float, float]) -> float | None:
    """Length from which on a linear method costs less than plain attention; None where it never does.

    Args:
        quadratic: Cost of plain attention, a·n² + b·n + c, as (a, b, c).
        linear: Cost of the method, b·n + c, as (b, c).
    """
    a, b, c = quadratic
    roots = np.roots([a, b - linear[0], c - linear[1]])
    real = [float(root.real) for root in roots if abs(root.imag) < 1e-12 and root.real > 0]
    return max(real, default=None)
