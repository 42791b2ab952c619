"""The import path without the current folder, where a file may be called as any module is: random.py, rich.py.

It imports what the interpreter has loaded already: anything else could be such a file.
"""

from __future__ import annotations

import os
import sys


def take_current_folder_off_path() -> None:
    """Import nothing from the current folder, in this process and its children; a source tree stays importable."""
    os.environ["PYTHONSAFEPATH"] = "1"  # for children that are started by libraries: fork server, compile workers
    is_module = getattr(sys.modules.get("__main__"), "__spec__", None) is not None  # python -m convnn
    source_tree = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120
    if is_module and not sys.flags.safe_path and sys.path[:1] != [source_tree]:
        del sys.path[:1]


def python_module(module: str, *arguments: str) -> list[str]:
    """Return the command line of a module in a process of its own that imports nothing from the current folder."""
    return [sys.executable, "-P", "-m", module, *arguments]
