"""Makes `cases.json`: what transformers' beam search finds with random tiny Llama models, in 200 random settings.

Needs torch and transformers, which this project does not depend on: `python -m tests.data.beams.make` where they are
installed. The weights come of `tests.data.beams.cases`, so the test builds the same models without either.
"""

import json
from pathlib import Path

import torch
import transformers
from transformers import LlamaConfig, LlamaForCausalLM

from tests.data.beams.cases import CONFIG, settings, weights


def found(setting: dict) -> dict:
    """The setting with the sequences and scores of its hypotheses, best first."""
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**CONFIG, attn_implementation="eager")).eval()
    model.load_state_dict({name: torch.tensor(w) for name, w in weights(setting["model"], setting["sharp"]).items()})
    extra = {name: setting[name] for name in ("temperature", "top_k", "repetition_penalty") if name in setting}
    if "temperature" in extra or "top_k" in extra:
        extra = _processors(extra)
    out = model.generate(
        torch.tensor([setting["prompt"]]), num_beams=setting["beams"], num_return_sequences=setting["beams"],
        do_sample=False, length_penalty=setting["penalty"], early_stopping=setting["early"],
        max_new_tokens=setting["max_tokens"], eos_token_id=setting["eos"], pad_token_id=0,
        return_dict_in_generate=True, output_scores=True, **extra,
    )  # fmt: skip
    hypotheses = []
    for sequence, score in zip(out.sequences.tolist(), out.sequences_scores.tolist(), strict=True):
        ids = sequence[len(setting["prompt"]) :]
        end = next((i + 1 for i, token in enumerate(ids) if token in setting["eos"]), len(ids))
        hypotheses.append({"ids": ids[:end], "score": score})
    return setting | {"found": hypotheses}


def _processors(extra: dict) -> dict:
    """Temperature and top-k, which `generate` applies to a beam only where they are handed in."""
    made = transformers.LogitsProcessorList()
    if "repetition_penalty" in extra:
        made.append(transformers.RepetitionPenaltyLogitsProcessor(extra["repetition_penalty"]))
    if "temperature" in extra:
        made.append(transformers.TemperatureLogitsWarper(extra["temperature"]))
    if "top_k" in extra:
        made.append(transformers.TopKLogitsWarper(extra["top_k"]))
    return {"logits_processor": made}


if __name__ == "__main__":
    cases = [found(setting) for setting in settings()]
    document = {"transformers": transformers.__version__, "torch": torch.__version__, "cases": cases}
    Path(__file__).with_name("cases.json").write_text(json.dumps(document, separators=(",", ":")) + "\n")
