"""Evaluating a model on tasks: every item is asked, scored and kept.

Read first: evaluation.py. Uses: no other folder.
"""
