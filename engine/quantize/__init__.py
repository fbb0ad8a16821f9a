"""Approximate a model with fewer bits, and measure what the approximation costs.

A checkpoint is read, packed and written one layer at a time, so that models larger than the memory can be done. The
text that measures walks through the layers beside it.
"""

from engine.quantize.measure import QuantizationReport
from engine.quantize.one_file import write_one_file
from engine.quantize.plan import RECIPES, Settings
from engine.quantize.run import quantize

__all__ = ["RECIPES", "QuantizationReport", "Settings", "quantize", "write_one_file"]
