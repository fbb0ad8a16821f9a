"""Rewards: verdicts on drawn answers, as numbers: advantages, figures of a step, pass@k. Knows no model.

Reads: answers, statistics.
"""
