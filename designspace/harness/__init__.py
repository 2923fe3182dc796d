"""Adapters: evaluation harnesses of others, whose texts are written here with a compressed cache."""
