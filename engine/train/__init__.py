"""Training: fine-tuning, pretraining, rewards and posteriors. The loose files open a run and control it.

Read first: open_run.py. Uses: base, decode, inside, sampling, text, weights.
"""
