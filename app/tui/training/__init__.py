"""The state of a training run on the screen: its history, samples and cost. It has no widgets.

Read first: run.py. Uses: base, chat.
"""
