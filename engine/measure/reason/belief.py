"""P(True): how sure a model is, when it is asked, that an answer is right (Kadavath et al., arXiv:2207.05221).

One look at one distribution. A small model is near chance at it: compare with what is known before it is trusted.
"""

from typing import TYPE_CHECKING

import numpy as np

from likely.engine.base.arrays import logsumexp
from likely.engine.base.errors import ParameterError
from likely.engine.decode.prompt import Prompt

if TYPE_CHECKING:
    from likely.engine.decode.session import Session

NAME = "p-true"  # among the scorers
ASK = "Question: {question}\nProposed answer: {answer}\nIs the proposed answer right? Say Yes or No."


def p_true(session: "Session", question: str, answer: str) -> float:
    """p(yes) / (p(yes) + p(no)) of the first token of a reply. ParameterError where a tokenizer has no such tokens."""
    tokenizer, text = session.tokenizer, ASK.format(question=question, answer=answer)
    chat = tokenizer.chat_template is not None
    prompt = Prompt((("user", text),)) if chat else Prompt(parts=(f"{text}\nReply:",))
    logits = session.logits_after(prompt.ids(tokenizer)).astype(np.float64)
    sides = []
    for word in ("yes", "no"):
        first = {tokenizer.encode(form)[:1][0] for form in (word, word.title(), f" {word}", f" {word.title()}")}
        sides.append(first)
    yes, no = sides[0] - sides[1], sides[1] - sides[0]
    if not yes or not no:
        raise ParameterError("this model's tokenizer does not tell yes from no by a first token: take another scorer")
    a, b = (float(logsumexp(logits[sorted(side)], np)) for side in (yes, no))
    return float(np.exp(a - np.logaddexp(a, b)))
