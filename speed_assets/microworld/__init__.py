"""The offline world: a controlled language in which what is true is known exactly.

Belongs here: the language, its teacher, its held-out evaluation tasks, the script that trains the
shipped base model. Does not belong here: anything a run with a real teacher needs.
"""
