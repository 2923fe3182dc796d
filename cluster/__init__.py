"""Running a sweep: the worker, two executors with the same semantics, and the scheduling between them."""
