"""`log.txt` of a run: Python's warnings and our own errors, never on the screen."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path

from convnn.files import open_append
from convnn.runs.run import LOG
from convnn.text import escaped


class RunLog(logging.FileHandler):
    """A handler whose failed writes do not end the run; `problem` is the latest one."""

    problem: OSError | None = None

    def _open(self) -> TextIOWrapper:
        return os.fdopen(open_append(Path(self.baseFilename)), "a", encoding=self.encoding, errors=self.errors)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            if self.stream is None:
                self.stream = self._open()
            lines = self.format(record).split("\n")  # a traceback has many
            self.stream.write("\n".join(map(escaped, lines)) + "\n")
            self.stream.flush()
        except OSError as error:
            self.problem = error


@contextmanager
def logged(run: Path) -> Iterator[RunLog]:
    """While the block runs, the loggers `convnn` and `py.warnings` write to the log of the run at `run`."""
    handler = RunLog(run / LOG, delay=True, encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    loggers = [logging.getLogger(name) for name in ("convnn", "py.warnings")]
    logging.captureWarnings(True)
    for logger in loggers:
        logger.addHandler(handler)
        logger.propagate = False
    try:
        yield handler
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
        logging.captureWarnings(False)
        try:
            handler.close()
        except OSError as error:  # what was buffered found no room
            handler.problem = error
