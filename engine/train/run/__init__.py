"""The training loop: steps, validation, checkpoints, and rewards sampled along the way.

Read first: trainer.py. Uses: data, losses, rewards.
"""
