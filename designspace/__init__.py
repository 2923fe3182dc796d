"""Design-space ablation for KV-cache compression: five composable axes, measured budgets, believable statistics."""
