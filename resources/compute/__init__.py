"""Where heavy work runs: worker processes, shards on a cluster, generators.

Belongs here: starting, watching and stopping workers. Not here: their work (`speed_assets/workers`).
"""
