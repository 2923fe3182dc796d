"""How many tokens each layer and head may hold."""
