"""The assets, one module per stage of the loop: thin Dagster code over domain, resources and workers."""
