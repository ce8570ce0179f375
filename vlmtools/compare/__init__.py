"""Comparing evaluations of the same items: what differs in the settings, then whether the numbers really differ."""

from vlmtools.compare._records import Comparison, Flip, Test
from vlmtools.compare.comparison import compare
from vlmtools.compare.runs import Loaded, load_run

__all__ = ["Comparison", "Flip", "Loaded", "Test", "compare", "load_run"]
