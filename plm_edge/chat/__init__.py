"""Talking to a model: conversations, the terminal chat, and the HTTP server."""
