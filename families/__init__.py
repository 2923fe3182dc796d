"""The five mechanism families, one file per mechanism, and the catalogue of published systems."""
