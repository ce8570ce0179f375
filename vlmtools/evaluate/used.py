"""What a run really used: tokens read and written, and which media each answer was given to."""

from collections import Counter
from collections.abc import Iterable

from vlmtools.crosscheck.told import Stored
from vlmtools.store import Store
from vlmtools.types import Json


def tokens(store: Store, answered: Iterable[Stored]) -> dict[str, Json]:
    """Tokens read and written per answer, and answers the length limit cut.

    Args:
        store: The run folder.
        answered: Its answers.
    """
    read, written, cut = [], [], 0
    for one in answered:
        record = store.get("answers", one.keys[0]) or {}
        cut += bool(record.get("truncated"))
        if record.get("n_new_tokens") is not None:
            read.append(record.get("n_prompt_tokens") or 0)
            written.append(record["n_new_tokens"])
    if not written:
        return {"cut_by_limit": cut}
    return {
        "read": {"least": min(read), "mean": sum(read) / len(read), "most": max(read)},
        "written": {"mean": sum(written) / len(written), "most": max(written)},
        "cut_by_limit": cut,
    }


def shown(answered: Iterable[Stored], n_items: int) -> dict[str, Json]:
    """How many answers were given to which media, as the model says it used them, and how many items got none.

    Args:
        answered: The answers.
        n_items: Items asked about.
    """
    counts = Counter("+".join(one.answers.modality) or "text" for one in answered)
    return {**dict(sorted(counts.items())), "no_answer": n_items - counts.total()}
