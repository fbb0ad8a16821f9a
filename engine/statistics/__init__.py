"""Estimates with their intervals, and comparisons of two lists of scores. Knows no model and no task.

Reads: no other room.
"""
