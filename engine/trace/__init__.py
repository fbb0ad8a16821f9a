"""Records of a run and what can be known from them: token steps, observation, files, replay. No mlx, no model.

Reads: transforms.
"""
