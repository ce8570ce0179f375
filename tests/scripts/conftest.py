"""Scripts import each other by name, as they do when one of them is run; so do the helpers of their tests."""

import sys

from places import ROOT

sys.path += [str(ROOT / "scripts"), str(ROOT / "tests" / "scripts")]
