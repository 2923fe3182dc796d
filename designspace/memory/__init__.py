"""How much memory an arm takes, computed before it runs."""
