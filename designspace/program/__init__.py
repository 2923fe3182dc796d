"""Mechanisms in a program of one's own, without a sweep: load a model, generate with it, or compress its own `generate`."""
