"""Pretraining a small model from a corpus: vocabulary, shape and training.

Read first: pretraining.py. Uses: assess, data, run.
"""
