"""Releases of a home: listing, comparing, cards, and pushing one to a hub.

Belongs here: what happens to a finished release. Not here: the stage that builds it
(`speed_assets/assets/release.py`) or its gates (`checks/`).
"""
