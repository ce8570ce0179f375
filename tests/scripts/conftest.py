"""Scripts import each other by name, as they do when one of them is run."""

import sys

from places import ROOT

sys.path.append(str(ROOT / "scripts"))
