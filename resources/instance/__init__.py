"""The Dagster instance of a home: which runs are alive, and who may use the GPU.

Belongs here: what Dagster itself does not know of its runs and pools. Not here: runs (`speed_assets/orchestration`).
"""
