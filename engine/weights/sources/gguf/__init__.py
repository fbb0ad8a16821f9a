"""Reading GGUF files: header, tensor names and block formats.

Read first: header.py. Uses: no other folder.
"""

from likely.engine.weights.sources.gguf.header import Header, TensorInfo, read_header

__all__ = ["Header", "TensorInfo", "read_header"]
