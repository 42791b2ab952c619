"""The command `convnn`, also as `python -m convnn`."""

from convnn import safe_path


def main() -> None:
    """Run the command that was typed; see `convnn.cli`."""
    safe_path.take_current_folder_off_path()
    from convnn import startup

    startup.prepare()
    try:
        from convnn.gc_pause import gc_paused

        with gc_paused():
            from convnn import cli
        cli.main()
    except startup.Interrupted as interrupted:
        startup.end(interrupted.code)
    finally:
        startup.end_on_signals()


if __name__ == "__main__":
    main()
