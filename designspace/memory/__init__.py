"""What an arm will take of memory, known before it runs."""
