"""Records of sampled tokens: what each step saw, how it is stored and how it is replayed.

Read first: step.py. Uses: transforms.
"""
