"""Answers taken out of a text and compared: extraction, mathematics, programs, votes. Knows no model.

Reads: statistics, transforms.
"""
