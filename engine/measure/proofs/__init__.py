"""Checking samplers and searches against exact probabilities.

Read first: table.py. Uses: no other folder.
"""
