"""What the browser loads: one page, its style and its script."""
