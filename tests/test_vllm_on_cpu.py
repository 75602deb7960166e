"""Products of adapters: each row has those of its own adapter, and the base's rows none."""

from __future__ import annotations

import pytest
import torch

from speed_assets.workers.vllm_on_cpu import add_products, rows_by_adapter


@pytest.mark.parametrize("adapters", [[0, 0, 0, 0], [-1, -1, -1, -1], [1, -1, 0, 1], [-1, 1, -1, 1]])
def test_each_row_gets_what_its_adapter_makes_of_it(adapters: list[int]) -> None:
    torch.manual_seed(1)
    widths = [6, 2]
    first = [torch.randn(2, 1, 3, 5) for _ in widths]
    second = [torch.randn(2, 1, width, 3) for width in widths]
    x, before = torch.randn(4, 5), torch.randn(4, 8)
    after = before.clone()
    add_products(after, x, first, second, 0.5, widths, rows_by_adapter(torch.tensor(adapters)))
    for row, adapter in enumerate(adapters):
        products = [0.5 * up[adapter, 0] @ down[adapter, 0] @ x[row] for down, up in zip(first, second, strict=True)]
        added = torch.cat(products) if adapter >= 0 else torch.zeros(8)
        torch.testing.assert_close(after[row], before[row] + added)
