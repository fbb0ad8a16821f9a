"""From rows to batches: splits, samples, paraphrases and automatic hyperparameters.

Read first: data.py. Uses: rewards.
"""
