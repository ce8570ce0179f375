"""How fast CHAIR is, and how fast the official program is on the same captions in the same run.

    python benchmarks/speed/chair.py --captions "../shared/data/chair/captions/opera_*.jsonl.gz"
    python benchmarks/speed/chair.py --captions FILE --official path/to/chair.py

Times are CPU seconds of one thread for `--n` captions, the longest ones found, tiled when there are fewer. The first
pass starts with empty caches and is shown by itself; the fastest of the others follows. The official program needs
`nltk` with its `punkt_tab` data and `pattern` in the environment of this script.

Expected on one ordinary core: 2,000 captions of some 100 words in a few tenths of a second; the official program takes
ten seconds or more.
"""

import argparse
import glob
import gzip
import importlib.util
import json
import time
from collections.abc import Callable, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from vlmtools.scoring import chair


def longest(paths: Sequence[str], n: int) -> list[str]:
    """The `n` longest captions of the files, tiled when there are fewer."""
    captions = [row["caption"] for path in paths for row in _rows(Path(path))]
    if not captions:
        raise SystemExit("No captions there. Give --captions a JSONL file, or a quoted pattern of files.")
    captions.sort(key=len, reverse=True)
    return list(islice(cycle(captions[:n]), n))


def timed(work: Callable[[str], object], captions: Sequence[str]) -> float:
    """CPU seconds of one pass."""
    begin = time.process_time()
    for caption in captions:
        work(caption)
    return time.process_time() - begin


def official(path: Path) -> Callable[[str], object]:
    """The function of an official `chair.py` that reads one caption; its COCO annotations are not needed."""
    spec = importlib.util.spec_from_file_location("official_chair", path)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{path} is not a Python file. Give --official the path of the program's chair.py.")
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.CHAIR.get_annotations = lambda self: None
    read: Callable[[str], object] = module.CHAIR("").caption_to_words
    return read


def _rows(path: Path) -> list[dict[str, str]]:
    raw = path.read_bytes()
    text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8")
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def _show(label: str, seconds: float, n: int) -> None:
    print(f"{label:<28}{seconds:8.3f} s {n / seconds:12,.0f} captions/s")


def main() -> None:
    """Time ours, and the official program if its path is given."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--captions", required=True, help='JSONL or JSONL.gz with "caption"; patterns may be used'
    )
    parser.add_argument("--n", type=int, default=2000, help="captions per pass")
    parser.add_argument("--repeat", type=int, default=5, help="passes after the first")
    parser.add_argument("--official", type=Path, help="path of the official chair.py, timed once beside ours")
    args = parser.parse_args()

    captions = longest(sorted(glob.glob(args.captions)), args.n)  # noqa: PTH207 - a pattern from the command line
    words = sum(len(caption.split()) for caption in captions) / len(captions)
    print(f"{len(captions):,} captions, {words:.1f} words on average; CPU time of one thread")
    truth = frozenset({"person"})
    first = timed(lambda caption: chair.score_caption(caption, truth), captions)
    warm = [timed(lambda caption: chair.score_caption(caption, truth), captions) for _ in range(args.repeat)]
    _show("vlmtools, first pass", first, len(captions))
    _show("vlmtools, fastest later pass", min([*warm, first]), len(captions))
    if args.official is not None:
        theirs = timed(official(args.official), captions)
        _show("official", theirs, len(captions))
        print(f"{'ratio to the first pass':<28}{theirs / first:8.1f} x")
        print(f"{'ratio to the fastest pass':<28}{theirs / min([*warm, first]):8.1f} x")


if __name__ == "__main__":
    main()
