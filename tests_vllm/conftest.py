"""Tests with a real vLLM, run by `make test-vllm`: the environment of the engine must be named."""

from __future__ import annotations

import os

import pytest

from tests.support.deadline import pytest_runtest_setup as pytest_runtest_setup

if not os.environ.get("SPEED_ENGINE_PYTHON"):
    pytest.exit("SPEED_ENGINE_PYTHON names no Python that has vllm: run `make test-vllm`", returncode=2)
