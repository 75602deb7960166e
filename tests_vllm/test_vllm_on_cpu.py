"""The plugin in vLLM itself: its loader finds it, and rows of the base in a step stay the base's."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from resources.compute.generator import engine_python
from speed_assets.workers.serve import PLUGIN

FOUND = """
import torch
from vllm.plugins import load_general_plugins
load_general_plugins()
from vllm.lora.punica_wrapper import punica_cpu
from vllm.lora.layers.utils import LoRAMapping
wrapper = punica_cpu.PunicaWrapperCPU(64, 8, "cpu")
wrapper.update_metadata(LoRAMapping((0, 7, 0), (0, 7, 0), True), [7], 1, 10)
y, x = torch.zeros(3, 4), torch.ones(3, 4)
wrapper.add_lora_linear(y, x, (torch.ones(1, 1, 2, 4),), (torch.ones(1, 1, 4, 2),), 1.0, (4,))
print(type(wrapper).__name__, y.sum(1).tolist())
logits = torch.zeros(3, 4)
wrapper.add_lora_logits(logits, x, torch.ones(1, 1, 2, 4), torch.ones(1, 1, 6, 2), 1.0)
print(logits.sum(1).tolist())
"""


def test_vllm_finds_the_plugin_by_its_metadata() -> None:
    path = os.pathsep.join([str(PLUGIN), str(Path(__file__).parents[1])])
    ran = subprocess.run(
        [engine_python(None), "-c", FOUND], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path}
    )
    assert ran.stdout.splitlines()[-2:] == ["OncePerAdapter [0.0, 32.0, 0.0]", "[0.0, 32.0, 0.0]"], ran.stderr[-2000:]
