"""Estimation from few rows: penalties chosen by cross-validation, learning curves, transfer, meta-learning, guarantees.

Every training is `engine.tune`'s, every interval `engine.statistics.estimates`'s or checked by simulation.

Reads: adapters, posterior, rows, sources, statistics, tune.
"""
