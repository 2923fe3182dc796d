"""How a slot holds a token: full precision or quantised codes."""
