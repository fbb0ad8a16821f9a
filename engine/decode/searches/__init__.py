"""Strategies that search the tree of texts: beams, exact search, power sampling.

Read first: search.py. Uses: loop.
"""
