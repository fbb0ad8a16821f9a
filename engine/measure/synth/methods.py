"""Registry of the methods that make rows, by name."""

from collections.abc import Mapping

from likely.engine.measure.synth.instruct import AttributeGrid, DocumentQuestions, Magpie, SelfInstruct
from likely.engine.measure.synth.method import RowMethod
from likely.engine.measure.synth.rewriting import Augment, Rewrite
from likely.engine.measure.synth.vae import TextVae
from likely.engine.measure.synth.verified import Preference, VerifiedProblems

KINDS: Mapping[str, type[RowMethod]] = {
    "verified": VerifiedProblems, "preference": Preference, "self-instruct": SelfInstruct, "magpie": Magpie,
    "rewrite": Rewrite, "document": DocumentQuestions, "grid": AttributeGrid, "augment": Augment,
    "vae": TextVae,
}  # fmt: skip
