"""The server: a loaded model behind OpenAI's and Ollama's wire formats, for many who ask at once.

Reads: watch.
"""
