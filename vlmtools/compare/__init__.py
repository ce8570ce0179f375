"""Comparing evaluations of the same items: what differs in the settings, then whether the numbers really differ."""

from vlmtools.compare.comparison import Comparison, Flip, Test, compare
from vlmtools.compare.runs import Loaded, load_run

__all__ = ["Comparison", "Flip", "Loaded", "Test", "compare", "load_run"]
