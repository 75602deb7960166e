"""Where heavy work runs: worker processes, shards on a cluster, generators.

Belongs here: starting, watching and stopping work. Not here: the work (`speed_assets/workers`).
"""
