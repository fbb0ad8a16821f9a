"""Looking into a model: attention, logit lens, attribution, patching and steering.

Read first: questions.py. Uses: base, decode, text, weights.
"""
