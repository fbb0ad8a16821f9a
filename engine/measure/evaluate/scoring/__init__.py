"""Asking a model: likelihoods of given texts, bounds, tool calls.

Read first: likelihood.py. Uses: figures, tasks.
"""
