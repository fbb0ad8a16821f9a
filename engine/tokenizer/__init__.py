"""Text to ids and back as a checkpoint does it, token by token where they stream, and conversations to text.

Reads: sandbox.
"""

from likely.engine.tokenizer.detokenizer import Detokenizer
from likely.engine.tokenizer.folder import read as from_folder
from likely.engine.tokenizer.metadata import build as from_gguf
from likely.engine.tokenizer.template import ChatTemplate, Message
from likely.engine.tokenizer.tokenizer import Tokenizer
from likely.engine.tokenizer.vocabulary import TokenTable

__all__ = ["ChatTemplate", "Detokenizer", "Message", "TokenTable", "Tokenizer", "from_folder", "from_gguf"]
