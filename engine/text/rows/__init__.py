"""Rows of a training file: their columns, types and messages.

Read first: training_row.py. Uses: no other folder.
"""
