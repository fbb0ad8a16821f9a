"""KV caches: full, sliding-window and quantized.

Read first: kv_cache.py. Uses: no other folder.
"""
