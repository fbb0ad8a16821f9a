"""Losses and their gradients over batches.

Read first: losses.py. Uses: data, rewards.
"""
