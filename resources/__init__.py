"""Everything outside the process that a stage uses: teacher, generators, workers, ledger, store, releases.

Belongs here: effects. Teachers, clusters and batch logs are behind protocols, so that tests replace them; store, ledger and
workers are used as they are, in a temporary home. Not here: Dagster assets (`speed_assets/assets`), or rules of the loop
(`speed_assets/domain`).

State that outlives a call: `redaction` (secret variables), `instance.run_liveness` (the lock of this process),
`instance.log_helpers` (Dagster's function that starts helpers),
`compute.cluster` (engines of a Ray worker), caches of `store.bucket`, `ledger.holders`, `inputs.corpus_files`,
`inputs.evaluation_sets`, `inputs.external_digests`, `inputs.packaged_models` and `inputs.prompt_files`; each module
docstring says what.
"""
