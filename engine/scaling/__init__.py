"""Scaling laws: how far p is from the data as parameters, tokens and compute grow, and how sure that is.

From runs, whoever made them, to a law with intervals, and from the law to what a budget buys. No mlx.

Reads: pretrain, statistics, tune.
"""
