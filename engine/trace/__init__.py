"""What a run leaves and what can be known from it: token steps, observation, files, replay. No mlx, no model."""
