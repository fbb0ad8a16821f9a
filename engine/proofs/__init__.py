"""Live proofs: what is drawn by the program's own samplers and searches, against probabilities that are listed.

The model is small enough for all of its texts to be written down, so that one side of each comparison is exact; the
other runs the code that a chat runs. Faults of the laws stand beside them, and each is seen to fail.

Reads: decode, diffusion, sources, statistics, tokenizer, trace, transforms.
"""
