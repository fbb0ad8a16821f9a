"""What tests of other views still take from here."""

from tests.support.model import ScriptedEngine

ASK = "Why is the sky blue?"


def short() -> ScriptedEngine:
    return ScriptedEngine(scripts=(" The sky looks blue.", " Blue light."))
