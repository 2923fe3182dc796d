"""What holds tokens: slots, observers, and the attention that reads and writes them."""
