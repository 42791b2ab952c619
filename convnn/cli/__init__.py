"""The command line, a file per command; `main` runs the command that was typed."""

from convnn.cli.app import main

__all__ = ["main"]
