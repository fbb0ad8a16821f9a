"""Text to ids and back, and conversations to either, as one checkpoint does it. Knows nothing of models."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from likely.engine.base.errors import DataError, TemplateError
from likely.engine.text.tokenizer import special as known
from likely.engine.text.tokenizer.detokenizer import Detokenizer
from likely.engine.text.tokenizer.encoder import Encoder
from likely.engine.text.tokenizer.template import ChatTemplate, Message
from likely.engine.text.tokenizer.turns import turns
from likely.engine.text.tokenizer.vocabulary import TokenTable

__all__ = ["Tokenizer"]


class Tokenizer:
    """A checkpoint's tokenizer; made by `from_folder` or `from_gguf`.

    bos        the beginning-of-text token, whether or not texts begin with it
    add_bos    whether they do: `encode(text, bos=True)` adds it only then
    add_eos    whether the checkpoint's training texts end with one of `eos`; nothing here adds it
    eos        every token that ends a text or an answer: those that the checkpoint names, and those known by spelling
    end        the one of them that the checkpoint names first, if it names any
    templates  chat templates by name; the plain one is "default"
    """

    def __init__(
        self,
        vocabulary: TokenTable,
        encoder: Encoder,
        *,
        bos: int | None = None,
        add_bos: bool = False,
        add_eos: bool = False,
        eos: Iterable[int] = (),
        strip_space: bool = False,
        templates: Mapping[str, ChatTemplate] | None = None,
    ) -> None:
        self.vocabulary = vocabulary
        self.bos = bos
        self.add_bos = add_bos and bos is not None
        self.add_eos = add_eos
        named = tuple(eos)
        self.end = named[0] if named else None
        self.eos = frozenset(named) | known.ends_of_text(vocabulary)
        self._turn_ends = self.eos | known.ends_of_turn(vocabulary)
        self.encoder = encoder
        self._strip_space = strip_space
        self._templates = dict(templates or {})

    # -- text and ids --------------------------------------------------------------------------------

    @property
    def vocab_size(self) -> int:
        """Ids below this may have a token; a model's head can be longer."""
        return len(self.vocabulary)

    @property
    def fingerprint(self) -> str:
        """Equal for two tokenizers whose ids mean the same bytes: a draft model's must equal its target's."""
        return self.vocabulary.fingerprint

    def encode(self, text: str, *, bos: bool = False, special: bool = False) -> list[int]:
        """The ids of a text.

        bos      begin as the checkpoint begins its texts: with the BOS token if it has `add_bos`, else as without
        special  control tokens spelled in the text become themselves; else they are text like any other

        Raises DataError for characters that no token can spell (half of a surrogate pair; a byte that the vocabulary
        lacks).
        """
        self._check(text)
        ids = self.encoder.encode(text, special=special)
        return [self.bos, *ids] if bos and self.add_bos and self.bos is not None else ids

    def decode(self, ids: Iterable[int], *, special: bool = False) -> str:
        """The text of ids; control tokens are left out unless `special`. Bytes that are not UTF-8 come as U+FFFD."""
        detokenizer = self.detokenizer(special=special)
        return "".join([detokenizer.push(token) for token in ids]) + detokenizer.flush()

    def detokenizer(self, *, special: bool = False, at_start: bool = True) -> Detokenizer:
        """Text from tokens as they come; `at_start=False` for a run that goes on where other text ended."""
        return Detokenizer(self.piece if special else self._visible, strip_space=self._strip_space and at_start)

    def piece(self, token: int) -> bytes:
        """The bytes that a token stands for, a control token's name included; none for an id without a token."""
        return self.vocabulary.piece(token)

    def is_special(self, token: int) -> bool:
        """Whether a token steers the model rather than being part of what it says."""
        return self.vocabulary.is_special(token)

    def _visible(self, token: int) -> bytes:
        return b"" if self.vocabulary.is_special(token) else self.vocabulary.piece(token)

    def _check(self, text: str) -> None:
        missing = self.vocabulary.missing_bytes
        try:
            encoded = text.encode()
        except UnicodeEncodeError as error:
            raise DataError(
                f"expected text, got half of a surrogate pair at character {error.start}: remove it or replace it"
            ) from None
        if missing and (match := missing.search(encoded)):
            at = len(encoded[: match.start()].decode(errors="ignore"))
            raise DataError(
                f"this model has no token for byte 0x{match[0][0]:02X}, in {text[at]!r} at character {at}: remove it"
            )

    # -- conversations -------------------------------------------------------------------------------

    @property
    def templates(self) -> Mapping[str, ChatTemplate]:
        """Every chat template by its name; the plain one is "default"."""
        return dict(self._templates)

    @property
    def chat_template(self) -> str | None:
        """The source of the chat template; None for a base model, which is given text as it is."""
        template = self._templates.get("default")
        return template.source if template else None

    @property
    def template_reads(self) -> frozenset[str]:
        """The names that the chat template reads from outside; none where there is none."""
        template = self._templates.get("default")
        return template.variables if template is not None else frozenset()

    def render(
        self,
        messages: Sequence[Message],
        *,
        generation_prompt: bool = True,
        tools: Sequence[Any] | None = None,
        **options: Any,
    ) -> str:
        """The conversation as text, by the chat template; raises what `ChatTemplate.render` raises."""
        template = self._templates.get("tool_use" if tools is not None and "tool_use" in self._templates else "default")
        if template is None:
            raise TemplateError("this is a base model, it has no chat template: give it text as it is (--raw)")
        return template.render(messages, generation_prompt=generation_prompt, tools=tools, **options)

    def chat(
        self,
        messages: Sequence[Message],
        *,
        generation_prompt: bool = True,
        tools: Sequence[Any] | None = None,
        **options: Any,
    ) -> list[int]:
        """The ids of a conversation. The template alone says whether it begins with a BOS token."""
        return self.encode(
            self.render(messages, generation_prompt=generation_prompt, tools=tools, **options), special=True
        )

    def spans(
        self, messages: Sequence[Message], *, tools: Sequence[Any] | None = None, **options: Any
    ) -> tuple[list[int], list[range]]:
        """The ids of a whole conversation, and for each message the range of those that are its own.

        An assistant's range is what the model has to write: it begins behind the generation prompt and reaches through
        the token that ends the turn. Any other message's begins where the range before it ended, so that it holds its
        header. Ranges do not overlap; a message that the template leaves out has an empty one. See
        `engine.tokenizer.turns` for how they are found.
        """

        def render(part: Sequence[Message], generation_prompt: bool) -> str:
            return self.render(part, generation_prompt=generation_prompt, tools=tools, **options)

        text, bounds = turns(render, messages)
        self._check(text)
        ids, ends = self.encoder.ends(text)

        spans: list[range] = []
        past = 0
        for i, (message, turn) in enumerate(zip(messages, bounds, strict=True)):
            # Tokens that share a character share its end, so that both searches keep such a character whole.
            start = max(past, bisect_right(ends, turn.start)) if message.get("role") == "assistant" else past
            stop = start
            if turn.start < turn.stop:
                stop = max(start, bisect_left(ends, turn.stop) + 1, bisect_right(ends, turn.stop))
                following = next((later.start for later in bounds[i + 1 :] if later.start < later.stop), len(text))
                limit = bisect_right(ends, following)
                stop = next((j + 1 for j in range(stop, limit) if ids[j] in self._turn_ends), stop)
            spans.append(range(start, stop))
            past = stop
        return ids, spans
