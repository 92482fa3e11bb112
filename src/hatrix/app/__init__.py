"""The command line and what else faces people."""
