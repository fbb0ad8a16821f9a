"""Registry of the methods that make rows, by name."""

from collections.abc import Mapping

from likely.engine.synth.instruct import AttributeGrid, DocumentQuestions, Magpie, SelfInstruct
from likely.engine.synth.method import RowMethod
from likely.engine.synth.rewriting import Augment, Rewrite
from likely.engine.synth.vae import TextVae
from likely.engine.synth.verified import Preference, VerifiedProblems

KINDS: Mapping[str, type[RowMethod]] = {
    "verified": VerifiedProblems, "preference": Preference, "self-instruct": SelfInstruct, "magpie": Magpie,
    "rewrite": Rewrite, "document": DocumentQuestions, "grid": AttributeGrid, "augment": Augment,
    "vae": TextVae,
}  # fmt: skip
