"""`python -m convnn` is the command `convnn`."""

from convnn.cli import main

if __name__ == "__main__":
    main()
