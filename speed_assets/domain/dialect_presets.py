"""Dialects of servers by name, each with where it was read and when.

The search for a dialect begins with a preset and changes it after a refusal (`dialect.next_dialect`).

Belongs here: documented dialects of servers. Not here: what a dialect means (`dialect.py`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from speed_assets.domain.dialect import PLAIN, Dialect


@dataclass(frozen=True, slots=True)
class Preset:
    """A server's dialect, the addresses that identify the server, and the source of both."""

    dialect: Dialect
    source: str
    hosts: tuple[str, ...] = ()
    """Ends of host names."""
    port: int | None = None
    """A port that this server alone uses by default, on this machine."""
    models: str = ""
    """Pattern of model names at these hosts; empty takes all that no other preset takes."""
    batches: bool = False
    """Whether it takes OpenAI's batch files (Files and Batches API), the one form that is sent. Anthropic, Gemini, Mistral and
    Azure have batches of other forms."""


PRESETS: dict[str, Preset] = {
    "openai": Preset(
        # max_tokens is deprecated and max_completion_tokens works with every model.
        Dialect("max_completion_tokens", temperature="unless_default", top_p="unless_default"),
        "platform.openai.com/docs/api-reference/chat/create, 2026-10",
        hosts=("api.openai.com",),
        batches=True,  # platform.openai.com/docs/guides/batch, 2026-10: half the price, within 24 hours
    ),
    "openai_reasoning": Preset(
        Dialect("max_completion_tokens", temperature="never", top_p="never", seed=False),
        "400 `unsupported_parameter` max_tokens and top_p, `unsupported_value` temperature: github.com/decolua/9router#560, "
        "github.com/lobehub/lobehub#11332 (gpt-5.x, 2026-01 to 2026-05); seed is deprecated: github.com/openai/openai-node#1613 "
        "(2026-08)",
        hosts=("api.openai.com",),
        batches=True,  # platform.openai.com/docs/guides/batch, 2026-10: half the price, within 24 hours
        models=r"(o\d|gpt-[5-9])",
    ),
    "anthropic": Preset(
        # response_format and seed are ignored there; temperature and top_p may not come together.
        Dialect("max_tokens", temperature="unless_default", top_p="unless_default", seed=False),
        "platform.claude.com/docs/en/api/openai-sdk; 400 `temperature` and `top_p` cannot both be specified: "
        "github.com/QwenLM/qwen-code#1216 (2025-12); Opus 4.7 takes no temperature: github.com/anomalyco/models.dev#1468 (2026-04)",
        hosts=("api.anthropic.com",),
    ),
    "gemini": Preset(
        Dialect(temperature="unless_default", top_p="unless_default", seed=False, strict=False, additional_properties=False),
        "ai.google.dev/gemini-api/docs/openai; 400 INVALID_ARGUMENT for unknown names and unions: "
        "github.com/openswarm-ai/openswarm#24 (2026-05), github.com/googleapis/google-api-python-client#2570; no seed: "
        "github.com/windmill-labs/windmill#7745 (2026-01)",
        hosts=("generativelanguage.googleapis.com",),
    ),
    "mistral": Preset(
        # Its seed is called random_seed; its default temperature is the model's.
        Dialect(seed=False),
        "docs.mistral.ai/api; 422 extra_forbidden max_completion_tokens: github.com/editor-code-assistant/eca#231 (2025-12)",
        hosts=("api.mistral.ai",),
    ),
    "deepseek": Preset(
        Dialect(temperature="unless_default", top_p="unless_default", seed=False, structure="json_object"),
        "api-docs.deepseek.com/api/create-chat-completion; 400 `This response_format type is unavailable now`: "
        "github.com/llm-exe/llm-exe#662, github.com/BerriAI/litellm#31466 (2026-06 to 2026-07)",
        hosts=("api.deepseek.com",),
    ),
    "openrouter": Preset(
        PLAIN,
        "openrouter.ai/docs/api-reference/overview (finish_reason `error`): github.com/gethouston/houston#1211 (2026-08)",
        hosts=("openrouter.ai",),
    ),
    "azure": Preset(
        Dialect("max_completion_tokens", temperature="unless_default", top_p="unless_default"),
        "learn.microsoft.com/azure/ai-foundry/openai/reference; 400 `content_filter`: github.com/stanford-crfm/helm#3327",
        hosts=("openai.azure.com", "services.ai.azure.com", "cognitiveservices.azure.com"),
    ),
    "ollama": Preset(
        PLAIN,
        "docs.ollama.com/api/openai-compatibility; prompts beyond the context are cut without a word: "
        "github.com/ollama/ollama#17889 (2026-08)",
        port=11434,
    ),
    "llama_cpp": Preset(PLAIN, "github.com/ggml-org/llama.cpp/tree/master/tools/server (exceed_context_size_error: #15780)"),
    "vllm": Preset(PLAIN, "docs.vllm.ai/en/latest/serving/openai_compatible_server (vLLM 0.32.0, tried)"),
    "sglang": Preset(PLAIN, "docs.sglang.io/docs/basic_usage/openai_api_completions"),
    "lm_studio": Preset(
        PLAIN,
        "lmstudio.ai/docs/app/api/structured-output; 400 'response_format.type' must be 'json_schema' or 'text': "
        "github.com/lmstudio-ai/lmstudio-bug-tracker#189",
        port=1234,
    ),
}  # fmt: skip


def preset_for(endpoint: str | None, model: str) -> str | None:
    """The preset whose server has this address; None for any other."""
    try:
        parts = urlsplit(endpoint or "")
        host, port = (parts.hostname or "").casefold(), parts.port
    except ValueError:
        return None
    found = [
        name
        for name, preset in PRESETS.items()
        if any(host == known or host.endswith(f".{known}") for known in preset.hosts)
        or (preset.port is not None and port == preset.port and host in ("localhost", "127.0.0.1", "::1"))
    ]
    special = [name for name in found if PRESETS[name].models and re.match(PRESETS[name].models, model.casefold())]
    general = [name for name in found if not PRESETS[name].models]
    return next(iter(special or general), None)
