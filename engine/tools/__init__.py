"""Tools that a model may call: what is offered, what it calls, and how its template has it write that.

Reads: decode, inside, tokenizer, trace, transforms.
"""
