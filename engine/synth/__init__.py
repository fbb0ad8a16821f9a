"""Rows made by a model: a pipeline from drawing to files, where each row came from, and what they do to the law.

Reads: adapters, answers, decode, evaluate, ranks, reason, rows, sources, statistics, trace, tune.
"""
