"""Registry of the methods that make rows, by name."""

from collections.abc import Mapping

from engine.synth.instruct import AttributeGrid, DocumentQuestions, Magpie, SelfInstruct
from engine.synth.method import RowMethod
from engine.synth.rewriting import Augment, Rewrite
from engine.synth.vae import TextVae
from engine.synth.verified import Preference, Verified

KINDS: Mapping[str, type[RowMethod]] = {
    "verified": Verified, "preference": Preference, "self-instruct": SelfInstruct, "magpie": Magpie,
    "rewrite": Rewrite, "document": DocumentQuestions, "grid": AttributeGrid, "augment": Augment,
    "vae": TextVae,
}  # fmt: skip
