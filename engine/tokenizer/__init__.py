"""Text to ids and back as a checkpoint does it, token by token where they stream, and conversations to text."""

from engine.tokenizer.detokenizer import Detokenizer
from engine.tokenizer.folder import read as from_folder
from engine.tokenizer.metadata import build as from_gguf
from engine.tokenizer.template import ChatTemplate, Message
from engine.tokenizer.tokenizer import Tokenizer
from engine.tokenizer.vocabulary import TokenTable

__all__ = ["ChatTemplate", "Detokenizer", "Message", "TokenTable", "Tokenizer", "from_folder", "from_gguf"]
