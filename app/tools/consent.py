"""Consent: which tools may be called without a question, for how long a person said so, and the file that keeps it.

A yes holds for a tool as it was when it was given: `ServerSpec.key` is of its name, description and schema, and of all
by which its server is started. Where one of these changes, it is asked again. Knows no screen.
"""

import json
from enum import Enum
from pathlib import Path

from likely.engine.base.files import foreign_json
from likely.engine.base.files.whole_file import write_whole

FILE = "tool-consents.json"
MAX_CALLS = 8  # in a row, without a word of the person's


class Consent(Enum):
    """A person's answer to a call."""

    NO = "no"
    ONCE = "once"
    CONVERSATION = "conversation"
    ALWAYS = "always"


class Consents:
    """Answers that a person has given: for this conversation, and for good, in likely's folder `home`."""

    def __init__(self, home: Path) -> None:
        self._file = home / FILE
        self._here: set[str] = set()

    def holds(self, key: str) -> bool:
        """Whether a tool may be called without a question. DataError where what is kept cannot be read."""
        return key in self._here or key in self._kept()

    def give(self, key: str, consent: Consent, words: str) -> None:
        """Remember an answer; `words` say in the file what it is about."""
        if consent in (Consent.CONVERSATION, Consent.ALWAYS):
            self._here.add(key)
        if consent is Consent.ALWAYS:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self._file, [json.dumps(self._kept() | {key: words}, indent=1, ensure_ascii=False)])

    def forget(self) -> None:
        """Another conversation begins: what was allowed in this one is asked again."""
        self._here.clear()

    def _kept(self) -> dict[str, str]:
        kept: dict[str, str] = foreign_json.read(self._file, {str: str}) if self._file.exists() else {}
        return kept
