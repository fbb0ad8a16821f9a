"""Fields of the requests that OpenAI's clients send, and ours beside them: tables that `json_reader` checks a body by,
and that the description of this server is written from.
"""

OPTIONAL_INT, OPTIONAL_FLOAT, OPTIONAL_BOOL = (int, None), (float, None), (bool, None)
MESSAGE = {
    "role": str,
    "content?": (str, [{"type": str, "text?": str}], None),
    "name?": (str, None),
    "tool_calls?": ([dict], None),
    "tool_call_id?": (str, None),
    "reasoning_content?": (str, None),
}
OURS = {
    "sampling?": {str: float},
    "order?": str,
    "strategy?": str,
    "draft_model?": str,
    "regex?": str,
    "choices?": [str],
    "steps?": bool,
    "snapshot?": bool,
    "adapter?": str,
    "weight?": float,
    "layer?": int,
}
SAMPLED = {  # fields at the top that are parameters of ours, by the name these have
    "temperature": "temp",
    "top_p": "top_p",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "top_k": "top_k",
    "min_p": "min_p",
    "repetition_penalty": "repetition_penalty",
    "repetition_context_size": "repetition_context_size",
    "xtc_probability": "xtc_probability",
    "xtc_threshold": "xtc_threshold",
}
DRAWN = {
    "model?": (str, None),
    **{f"{name}?": OPTIONAL_FLOAT for name in SAMPLED},
    "max_tokens?": OPTIONAL_INT,
    "n?": OPTIONAL_INT,
    "seed?": OPTIONAL_INT,
    "stop?": (str, [str], None),
    "stream?": OPTIONAL_BOOL,
    "stream_options?": ({"include_usage?": OPTIONAL_BOOL}, None),
    "logit_bias?": ({str: float}, None),
    "user?": (str, None),
    "metadata?": (dict, None),
    "store?": OPTIONAL_BOOL,
    "service_tier?": (str, None),
    "safety_identifier?": (str, None),
    "prompt_cache_key?": (str, None),
    "prompt_cache_retention?": (str, None),
    "draft_model?": (str, None),
    "likely?": (OURS, None),
}
NAMED_SCHEMA = {"schema?": dict, "name?": str, "strict?": OPTIONAL_BOOL}
TOOL = {"type": str, "function": {"name": str, "description?": (str, None), "parameters?": (dict, None)}}
REASONING = {"effort?": (str, None), "summary?": (str, None), "generate_summary?": (str, None)}
CHAT = {
    **DRAWN,
    "messages": [MESSAGE],
    "max_completion_tokens?": OPTIONAL_INT,
    "logprobs?": OPTIONAL_BOOL,
    "top_logprobs?": OPTIONAL_INT,
    "response_format?": ({"type": str, "json_schema?": (NAMED_SCHEMA, None)}, None),
    "tools?": ([TOOL], None),
    "tool_choice?": (str, {"type": str, "function?": {"name": str}}, None),
    "parallel_tool_calls?": OPTIONAL_BOOL,
    "chat_template_kwargs?": (dict, None),
    "modalities?": ([str], None),
    "reasoning_effort?": (str, None),
    "reasoning?": (REASONING, None),
}
COMPLETION = {
    **DRAWN,
    "prompt": (str, list),
    "best_of?": OPTIONAL_INT,
    "echo?": OPTIONAL_BOOL,
    "logprobs?": OPTIONAL_INT,
    "suffix?": (str, None),
}
EMBEDDING = {
    "model?": (str, None),
    "input": (str, list),
    "encoding_format?": (str, None),
    "user?": (str, None),
    "likely?": (OURS, None),
}
