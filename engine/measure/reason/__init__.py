"""Reasoning benchmarks: paths, votes, step-wise search and reflection.

Read first: reasoning.py. Uses: evaluate.
"""
