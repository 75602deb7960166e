"""The Dagster instance of a home: which runs are alive, and which step may use the GPU.

Belongs here: what Dagster itself does not track of its runs and pools. Not here: runs (`speed_assets/orchestration`).
"""
