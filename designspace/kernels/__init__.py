"""Compiled kernels for what a profile showed to pay; the plain PyTorch path stays the reference and the fallback."""
