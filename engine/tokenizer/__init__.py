"""Text to ids and back as a checkpoint does it, piece by piece as tokens come, and conversations through its chat
template."""

from engine.tokenizer.detokenizer import Detokenizer
from engine.tokenizer.template import ChatTemplate, Message
from engine.tokenizer.tokenizer import Tokenizer
from engine.tokenizer.vocabulary import Vocabulary

__all__ = ["ChatTemplate", "Detokenizer", "Message", "Tokenizer", "Vocabulary"]
