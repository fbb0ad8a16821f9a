"""Posteriors over the weights of an adapter: fitted, kept beside it, and averaged over where the model is asked.

Reads: adapters, rows, sources, trace, tune.
"""
