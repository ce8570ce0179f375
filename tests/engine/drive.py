"""A driver to be killed: collects answers of a `Recording` on a cluster into a run folder.

python drive.py ADDRESS FOLDER LOG N_ITEMS DELAY_S
"""

import sys

from recording import Recording, items

from vlmtools.crosscheck.collect import Draws, collect
from vlmtools.engine.ray import RayData
from vlmtools.store import Store


def main() -> None:
    address, folder, log, n, delay = sys.argv[1:]
    with Store(folder) as store, RayData(address, workers=2, block=4) as engine:
        store.bind({"what": "test"})
        responder = Recording(log, delay_s=float(delay))
        collect(store, responder, items(int(n)), Draws(), engine=engine)


if __name__ == "__main__":
    main()
