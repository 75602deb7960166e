"""Scripts for maintainers. Nothing in the product imports them."""
