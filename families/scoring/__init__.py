"""Which tokens are worth a slot."""
