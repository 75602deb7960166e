"""Runs over the graph: plan, staleness, lanes, one Dagster run, rehearsal, study, automation, and what commands report.

Belongs here: deciding what to make, making it in order, and reading what was made. Not here: making one artifact
(`speed_assets/assets`), printing (`speed_assets/cli`).
"""
