"""Evaluation of a model on tasks and on given texts: items asked, answers judged, figures with their errors.

Reads: answers, decode, diffusion, inside, quantize, ranks, rows, sources, statistics, tokenizer, tools, trace,
transforms, tune.
"""
