"""Teach a student what a hypergraph teacher knows: soft labels, and the means over reliable hyperedges.

Reference: LightHGNN, ICLR 2024; iMoonLab/LightHGNN, trans_train.py. The official code gives probabilities where its
divergence expects their logarithms (`log_target`); `log_target=True` repeats that, False is the true divergence.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F


def edge_mean(
    values: Float[Tensor, "node column"], incidence: Float[Tensor, "node edge"]
) -> Float[Tensor, "edge column"]:
    """Mean of the values over the nodes of each hyperedge.

    Args:
        values: One row per node.
        incidence: 1 where a node belongs to an edge, else 0.
    """
    return incidence.T @ values / incidence.sum(dim=0)[:, None].clamp_min(1)


def entropy(logits: Float[Tensor, "node label"]) -> Float[Tensor, "node 1"]:
    """Entropy of each node's prediction, in nats."""
    parts: Tensor = torch.special.entr(logits.softmax(dim=-1))
    return parts.sum(dim=-1, keepdim=True)


def edge_reliability(
    logits: Float[Tensor, "node label"],
    noisy_logits: Float[Tensor, "node label"],
    incidence: Float[Tensor, "node edge"],
) -> Float[Tensor, " edge"]:
    """How little the teacher's certainty on an edge moves under noise, in [0, 1]; the worst edge has 0.

    Args:
        logits: The teacher's predictions.
        noisy_logits: Its predictions on noisy features.
        incidence: 1 where a node belongs to an edge, else 0.
    """
    moved = (edge_mean(entropy(noisy_logits), incidence) - edge_mean(entropy(logits), incidence)).abs()[:, 0]
    return 1 - moved / moved.max().clamp_min(torch.finfo(moved.dtype).tiny)


def high_order_loss(
    student: Float[Tensor, "node label"],
    teacher: Float[Tensor, "node label"],
    incidence: Float[Tensor, "node edge"],
    chosen: Bool[Tensor, " edge"],
    tau: float = 1.0,
    log_target: bool = True,
) -> Float[Tensor, ""]:
    """Divergence between the edge means of the student's and the teacher's probabilities.

    Args:
        student: Its logits.
        teacher: Its logits.
        incidence: 1 where a node belongs to an edge, else 0.
        chosen: Edges that count; in training drawn with `edge_reliability` as probability.
        tau: Divides the means; 1 leaves them.
        log_target: True repeats the official formula, which reads probabilities as logarithms.
    """
    ours, theirs = (
        edge_mean(logits.softmax(dim=1), incidence)[chosen] / tau for logits in (student, teacher)
    )
    return F.kl_div(ours.log(), theirs, reduction="batchmean", log_target=log_target)


def soft_label_loss(
    student: Float[Tensor, "node label"], teacher: Float[Tensor, "node label"], log_target: bool = True
) -> Float[Tensor, ""]:
    """Divergence between the predictions of each node.

    Args:
        student: Its logits.
        teacher: Its logits.
        log_target: True repeats the official formula, which reads probabilities as logarithms.
    """
    ours, theirs = F.log_softmax(student, dim=1), teacher.softmax(dim=1)
    return F.kl_div(ours, theirs, reduction="batchmean", log_target=log_target)
