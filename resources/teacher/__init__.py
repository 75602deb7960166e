"""Asking a teacher: dialects of the chat API, one call, batches, pace, and the teacher that stages see.

Belongs here: everything between a request and its answer. Not here: what is kept and paid (`resources/ledger`), or what a
request says (`speed_assets/domain/prompts`).
"""
