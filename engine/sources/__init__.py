"""Where models come from: the store, the hub, folders, GGUF files, packages. Gives checkpoints; knows no decoding.

Reads: ranks, tokenizer.
"""
