"""What `dg dev` loads: the definitions of the recipes that the environment names.

Belongs here: loading them without a pause for garbage. Not here: which they are (`orchestration/code_location.py`).
"""

import gc

import dagster as dg


@dg.definitions
def defs() -> dg.Definitions:
    """The definitions of this process's recipes.

    Imports and definitions make many objects that all stay; each look for garbage among them, and among Dagster's, takes a tenth of
    a second and finds none. So there is none meanwhile.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        from speed_assets.orchestration.code_location import loaded_definitions

        return loaded_definitions()
    finally:
        if enabled:
            gc.enable()
