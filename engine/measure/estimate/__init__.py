"""Estimating how much more data would help: learning curves, transfer, bounds.

Read first: curve.py. Uses: no other folder.
"""
