"""Train the bundled reference models: small vision-language models of a picture world whose truth is known.

    python scripts/train_reference.py tower                    # vision tower: which thing does each patch show?
    python scripts/train_reference.py clean                    # a whole model on truthful answers
    python scripts/train_reference.py habits-few habits-many weak-vision prior smol   # the others, from `clean`

Each stage writes runs/reference/<stage>/ and goes on where it stopped when the same line is run again. With a GPU the
same lines take minutes; on two CPU cores `clean` takes about an hour.

    python scripts/train_reference.py clean habits-few --ship   # and write the bundled form, half precision
"""

import argparse
from pathlib import Path

from reference_training.loop import train
from reference_training.ship import ship
from reference_training.stages import STAGES


def main() -> None:
    """Train the stages asked for, one after the other."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stages", nargs="+", choices=sorted(STAGES))
    parser.add_argument("--out", type=Path, default=Path("runs/reference"))
    parser.add_argument("--steps", type=int, help="Fewer or more steps than the stage says.")
    parser.add_argument("--ship", action="store_true", help="Write vlmtools/reference/models/<stage>.")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads.")
    given = parser.parse_args()
    for name in given.stages:
        train(STAGES[name], given.out, steps=given.steps, threads=given.threads)
        if given.ship:
            print("written:", ship(name, given.out))


if __name__ == "__main__":
    main()
