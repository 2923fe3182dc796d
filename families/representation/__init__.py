"""How a slot stores a token: full precision, quantised codes, merged tokens."""
