"""Models in llama.cpp's file format: a bounded header, block formats, and the way back to Hugging Face's names.

Reads: no other room.
"""

from likely.engine.sources.gguf.header import Header, TensorInfo, read_header

__all__ = ["Header", "TensorInfo", "read_header"]
