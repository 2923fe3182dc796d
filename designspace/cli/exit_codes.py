"""The exit codes of the `designspace` command; 0 is done."""

EXIT_ERROR = 1
EXIT_USAGE = 2  # of the command line, or a declaration that breaks a rule
EXIT_MISMATCH = 3  # not what was registered
EXIT_INCOMPLETE = 4  # shards were given up, or a contrast is void
EXIT_INTERRUPTED = 130  # Ctrl-C
