"""How a token is chosen: presets, transforms of the distribution, and traces of what was sampled.

Read first: presets.py. Uses: base.
"""
