"""What makes vLLM's CPU build fast enough: adapters that are multiplied once a step, and threads that do not sleep at once.

vLLM 0.32 copies the weights of an adapter once for each token of a step, which took up to nine tenths of an engine's time
(docs/benchmarks.md). vLLM loads this module as a plugin (`serve.py` puts the folder `vllm_plugin/` on the path); an engine in this
process calls it.

Belongs here: the products, the wait of threads. Not here: which adapters there are (`generate_vllm.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

SPINS = "10000"
"""`GOMP_SPINCOUNT`: rounds of a waiting thread of GNU OpenMP before it sleeps, about a tenth of a millisecond. A step has hundreds of
small products, and to wake a thread takes longer than one of them. Ours, measured (docs/benchmarks.md)."""


def register() -> None:
    """Let vLLM multiply adapters with the functions of this module, where it has no device but a CPU."""
    import torch

    if torch.cuda.is_available():
        return
    from vllm.lora.punica_wrapper import punica_cpu

    class OncePerAdapter(punica_cpu.PunicaWrapperCPU):  # type: ignore[misc]  # vllm is in an environment of its own
        """vLLM's bookkeeping of adapters, with the products of this module in the layers."""

        def update_metadata(self, *args: Any, **kwargs: Any) -> None:
            super().update_metadata(*args, **kwargs)
            self.groups = rows_by_adapter(self.token_lora_indices)
            self.groups_of_logits = rows_by_adapter(self.sampler_indices)

        def add_lora_linear(
            self,
            y: Tensor,
            x: Tensor,
            lora_a_stacked: Sequence[Tensor],
            lora_b_stacked: Sequence[Tensor],
            scale: float,
            output_slices: Sequence[int],
            **_: Any,
        ) -> None:
            add_products(y, x, lora_a_stacked, lora_b_stacked, scale, output_slices, self.groups)

        def add_lora_logits(
            self, y: Tensor, x: Tensor, lora_a_stacked: Tensor, lora_b_stacked: Tensor, scale: float, **_: Any
        ) -> None:
            width = min(y.shape[-1], lora_b_stacked.shape[-2])
            of_width = lora_b_stacked[..., :width, :]
            add_products(y, x, [lora_a_stacked], [of_width], scale, [width], self.groups_of_logits)

    punica_cpu.PunicaWrapperCPU = OncePerAdapter


def rows_by_adapter(adapters: Tensor) -> list[tuple[int, slice | Tensor]]:
    """The rows of each adapter of a step.

    Args:
        adapters: (tokens), the place of each token's adapter, below 0 for the base alone.

    Returns:
        The places, and their rows; none for the base.

    >>> import torch
    >>> rows_by_adapter(torch.tensor([0, 0])), rows_by_adapter(torch.tensor([-1, 1, -1]))
    ([(0, slice(0, 2, None))], [(1, tensor([1]))])
    """
    found = adapters.unique().tolist()
    if len(found) == 1 and found[0] >= 0:
        return [(found[0], slice(0, len(adapters)))]
    return [(place, (adapters == place).nonzero().flatten()) for place in found if place >= 0]


def add_products(
    y: Tensor,
    x: Tensor,
    first: Sequence[Tensor],
    second: Sequence[Tensor],
    scale: float,
    widths: Sequence[int],
    groups: Sequence[tuple[int, slice | Tensor]],
) -> None:
    """Add to the outputs of a layer what the adapters make of its inputs.

    Args:
        y: (tokens, features of all parts), changed in place.
        x: (tokens, features).
        first: for each part of the layer (adapters, 1, rank, features).
        second: for each part (adapters, 1, features of the part, rank).
        scale: factor of the products.
        widths: features of each part.
        groups: as `rows_by_adapter` returns them.
    """
    y, x = y.view(-1, y.shape[-1]), x.view(-1, x.shape[-1])
    for place, rows in groups:
        own = x[rows]
        begin = 0
        for down, up, width in zip(first, second, widths, strict=True):
            part = y[:, begin : begin + width]
            inner = own @ down[place, 0].T
            if scale != 1:
                inner = inner * scale
            if isinstance(rows, slice):
                part[rows].addmm_(inner, up[place, 0].T)
            else:
                part.index_add_(0, rows, inner @ up[place, 0].T)
            begin += width
