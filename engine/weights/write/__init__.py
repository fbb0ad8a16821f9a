"""Writing models: merged adapters, Hugging Face folders and GGUF files.

Read first: fuse.py. Uses: adapters, quantize, sources.
"""
