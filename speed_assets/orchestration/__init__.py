"""Runs over the graph: plan, staleness, lanes, one Dagster run, rehearsal, study, automation.

Belongs here: deciding what to make and making it in order. Not here: making one artifact (`speed_assets/assets`).
"""
