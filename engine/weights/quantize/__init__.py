"""Quantizing a model and measuring what it loses.

Read first: run.py. Uses: sources.
"""

from likely.engine.weights.quantize.measure import QuantizationReport
from likely.engine.weights.quantize.plan import RECIPES, Settings
from likely.engine.weights.quantize.run import quantize, widths

__all__ = ["RECIPES", "QuantizationReport", "Settings", "quantize", "widths"]
