"""Measures of a distribution against data and against another: scores, comparisons, estimates. Draws nothing."""
