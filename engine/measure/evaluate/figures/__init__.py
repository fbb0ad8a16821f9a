"""Figures of an evaluation, each with its standard error and interval. No model.

Read first: figures.py. Uses: tasks.
"""
