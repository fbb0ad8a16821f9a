"""A model's configuration: its shape, weight names and rotary embeddings (RoPE).

Read first: config.py. Uses: no other folder.
"""
