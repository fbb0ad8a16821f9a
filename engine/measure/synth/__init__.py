"""Generating and filtering synthetic training data.

Read first: pipeline.py. Uses: evaluate, reason.
"""
