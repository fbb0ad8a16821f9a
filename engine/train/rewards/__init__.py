"""Advantages and figures for learning from rewards. Plain numbers, no model.

Read first: advantages.py. Uses: no other folder.
"""
