"""Numbers exactly as they are written. `Decimal` arithmetic would round them."""

from __future__ import annotations

from decimal import Decimal


def canonical(text: str, exponent: int = 0) -> str:
    """Returns a finite number times 10 to the exponent as plain digits, exactly."""
    sign, digits, of_text = Decimal(text).as_tuple()
    assert isinstance(of_text, int), "numbers are finite"
    plain = format(Decimal((sign, digits, of_text + exponent)), "f")
    short = plain.rstrip("0").rstrip(".") if "." in plain else plain
    return "0" if short == "-0" else short
