"""Approximate a model with fewer bits, and measure what the approximation costs.

A checkpoint is read, packed and written one layer at a time, so that models larger than the memory can be done. The
text that measures walks through the layers beside it.

Reads: sources, statistics, tokenizer.
"""

from likely.engine.quantize.measure import QuantizationReport
from likely.engine.quantize.plan import RECIPES, Settings
from likely.engine.quantize.run import quantize, widths

__all__ = ["RECIPES", "QuantizationReport", "Settings", "quantize", "widths"]
