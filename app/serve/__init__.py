"""The local server for OpenAI, Anthropic and Ollama clients. It schedules requests and guards who may send them.

Read first: server.py. Uses: jobs, store, words.
"""
