"""The command line: one module a command, each with a `command`; what they import, they import when run."""
