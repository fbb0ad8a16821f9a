"""The blocks of a transformer: linear layers, MLPs, attention blocks and their weights.

Read first: block.py. Uses: caches, configuration.
"""
