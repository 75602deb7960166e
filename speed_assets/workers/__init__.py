"""Heavy work, each in a process of its own: the only place that imports torch, trl, vllm and their like.

A worker reads a job file and writes into the job's folder. It knows no Dagster and no recipe file.
"""
