"""Finding and loading checkpoints in the formats of Hugging Face, mlx-lm and GGUF.

Read first: checkpoint.py. Uses: no other folder.
"""
