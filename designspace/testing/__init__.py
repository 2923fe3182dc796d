"""Public aids for testing strategies, executors and stores, for third parties as much as for this project's own tests."""
