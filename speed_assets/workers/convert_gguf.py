"""A GGUF file as a model folder that every engine and trainer reads: `python -m speed_assets.workers.convert_gguf GGUF OUT`.

Belongs here: dequantizing into safetensors, and the tokenizer, chat template and end tokens next to them. Not here: where
a GGUF file comes from and where its folder is (`resources/inputs/packaged_models.py`).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from speed_assets.workers.host import cores, prepare_process

END_OF_TEXT = ("<|endoftext|>", "<|end_of_text|>", "</s>")
"""Tokens that end a document in the models that GGUF files are made of; where a chat ends with another one, both end."""


def convert(source: Path, out: Path) -> None:
    """Write the model of a GGUF file to the folder `out`: float32 safetensors, tokenizer, chat template, end tokens.

    float32 holds the quantized numbers exactly, and a CPU computes with it fastest; whoever loads the folder
    chooses its own dtype. Raises ValueError for a file without an end token.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    model: Any = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.float32)
    if tokenizer.eos_token_id is None:
        raise ValueError(f"{source} names no end token: a model made from it would never stop")
    # transformers takes the weights for quantized still, and refuses to save them: they are plain float32 by now.
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    others = [token for token in END_OF_TEXT if token in tokenizer.get_vocab() and token != tokenizer.eos_token]
    ends = [tokenizer.eos_token_id, *(tokenizer.convert_tokens_to_ids(token) for token in others)]
    if tokenizer.pad_token is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
        # A padding token that is also the end token would be masked where the end has to be learnt.
        tokenizer.pad_token = others[0] if others else tokenizer.eos_token
    tokenizer.model_max_length = model.config.max_position_embeddings
    model.generation_config.eos_token_id = ends
    model.generation_config.pad_token_id = model.config.pad_token_id = tokenizer.pad_token_id
    out.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


if __name__ == "__main__":
    prepare_process(cores())
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
