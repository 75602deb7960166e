"""Asking a teacher: dialects of the chat API, one call, batches, pace, and the teacher that stages see.

Belongs here: everything between a request and its answer. Not here: what is stored and paid (`resources/ledger`), or the
text of a request (`speed_assets/domain/prompts`).
"""
