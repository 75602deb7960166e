"""The microworld: a toy language in which the right answer to every question is computed.

The offline recipe runs in it without a model provider. A run with a real teacher uses the tokenizer of its base model
where `embedding_model.base` is `static`.

Belongs here: the language, its simulated teacher, its held-out evaluation tasks, the texts and weights of its base model.
Not here: training that base model (`scripts/pretrain.py`).
"""
