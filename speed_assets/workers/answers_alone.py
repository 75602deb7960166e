"""TRL's losses on a CPU: only positions that are learnt meet the vocabulary.

Without a GPU, TRL multiplies each position with the whole vocabulary, those of prompts and padding too, and multiplies by 0 what they
lose; on a GPU it takes those alone. On a CPU that was up to a third of a training's time, more with a larger vocabulary. Losses stay
as they are.

Belongs here: that one change, made by importing this module. Not here: trainings (`fine_tuning.py`).
"""

import torch
from trl.trainer import utils

if not hasattr(utils, "_use_triton"):
    raise ImportError("trl.trainer.utils has no _use_triton any more: look at how this version scores positions")
if not torch.cuda.is_available():
    vars(utils)["_use_triton"] = lambda _device: True  # of the positions alone: the kernels ask their own module
