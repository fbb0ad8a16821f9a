"""Tokenizers and chat templates, read from a checkpoint's own files.

Read first: tokenizer.py. Uses: no other folder.
"""

from likely.engine.text.tokenizer.detokenizer import Detokenizer
from likely.engine.text.tokenizer.folder import read as from_folder
from likely.engine.text.tokenizer.metadata import build as from_gguf
from likely.engine.text.tokenizer.template import ChatTemplate, Message
from likely.engine.text.tokenizer.tokenizer import Tokenizer
from likely.engine.text.tokenizer.vocabulary import TokenTable

__all__ = ["ChatTemplate", "Detokenizer", "Message", "TokenTable", "Tokenizer", "from_folder", "from_gguf"]
