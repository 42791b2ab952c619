"""The command `convnn`, also as `python -m convnn`."""

from typing import NoReturn

from convnn.gc_pause import gc_paused


def main() -> NoReturn:
    """Run the command that was typed; see `convnn.cli`."""
    with gc_paused():
        from convnn import cli
    cli.main()


if __name__ == "__main__":
    main()
