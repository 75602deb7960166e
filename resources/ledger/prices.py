"""The exact cost of a call under a price table. An unknown cost is None, never 0 and never guessed.

Belongs here: from tokens to money. Not here: caps (`budget.py`), booking (`ledger.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal

from resources.ledger.calls import TeacherRequest
from speed_assets.domain.fingerprints import canonical_json
from speed_assets.recipe import Recipe

NANO = 10**9
"""Money is stored in 10^-9 of its currency: exact for prices of up to three decimals per million tokens; finer ones are
rounded up once per call."""
_TEMPLATE_TOKENS = 256
"""Tokens, more than any chat template puts around one message. Ours."""


@dataclass(frozen=True, slots=True)
class Tariff:
    """The price of one model's calls. `input` and `output` are in 10^-9 of `currency` for a token; None is unknown."""

    version: str | None = None
    currency: str = ""
    input: Decimal | None = None
    output: Decimal | None = None

    @classmethod
    def of(cls, recipe: Recipe, model: str | None = None) -> Tariff:
        """The price of the recipe's teacher, or of another model at its endpoint, in the mode `calls.mode`."""
        prices = recipe.money.prices
        if prices is None:
            return cls()
        price = prices.models.get(model or recipe.teacher.model)
        if price is None:
            return cls(prices.version, prices.currency)
        factor = Decimal(str(price.batch_factor)) if recipe.calls.mode == "batch" else Decimal(1)

        def for_a_token(for_a_million: float | None) -> Decimal | None:
            return None if for_a_million is None else Decimal(str(for_a_million)) * factor * (NANO // 10**6)

        return cls(
            prices.version, prices.currency, for_a_token(price.input_per_million), for_a_token(price.output_per_million)
        )

    def cost(self, prompt_tokens: int | None, output_tokens: int | None) -> int | None:
        """10^-9 of the currency; None when a price or a count is unknown.

        >>> Tariff("v", "USD", Decimal(150), Decimal(600)).cost(1000, 100)
        210000
        >>> Tariff("v", "USD", Decimal(150), None).cost(1000, 100) is None
        True
        """
        if prompt_tokens is None or output_tokens is None or self.input is None or self.output is None:
            return None
        return int((prompt_tokens * self.input + output_tokens * self.output).to_integral_value(ROUND_CEILING))

    def max_cost(self, request: TeacherRequest) -> int:
        """The most that a call can cost, in 10^-9 of the currency; 0 when the price is unknown.

        No byte-level tokenizer makes more tokens than there are bytes, and the server writes `max_new_tokens` at most.
        """
        written = len(request.prompt.encode("utf-8", "replace"))
        if request.schema:
            written += len(canonical_json(dict(request.schema)))
        return self.cost(written + _TEMPLATE_TOKENS, int(request.parameters.get("max_new_tokens", 0))) or 0


UNPRICED = Tariff()
"""No price table."""


def in_currency(nano: int | None) -> float | None:
    """Money in units of its currency, for display.

    >>> in_currency(210000)
    0.00021
    """
    return None if nano is None else float(Decimal(nano) / NANO)
