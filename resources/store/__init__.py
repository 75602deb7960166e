"""Artifacts on disk by fingerprint, in a home of one's own and in a store that several homes share.

Belongs here: finding, writing, checking and sharing artifacts. Not here: making them (`speed_assets/assets`).
"""
