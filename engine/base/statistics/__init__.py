"""Estimates with standard errors and intervals, comparisons, and the table of measures.

Read first: estimates.py. Uses: concurrency.
"""
