"""Build the wheel, install it into an environment that cannot see the source tree, and use it there.

The environment holds the wheel and the libraries of the interpreter that runs this script; the editable install of the
source tree is not among them. Every command runs under a probe that fails when a module of the project was loaded from
anywhere but the installed wheel.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.support.terminal import Program  # noqa: E402 found by the line above

PROBE = """
import sys

from convnn.__main__ import main


def misplaced():
    installed = sys.prefix + "/"
    for name, module in list(sys.modules.items()):
        path = getattr(module, "__file__", None)
        if name.partition(".")[0] in ("convnn", "tui") and path and not path.startswith(installed):
            yield f"{name} was loaded from {path}"


try:
    main()
finally:
    problems = list(misplaced())
    if problems:
        sys.exit("\\n".join(problems))
"""


def main() -> None:
    """Raises SystemExit with the output of the first step that fails."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        python = installed(folder)
        probe = folder / "probe.py"
        probe.write_text(PROBE)

        def convnn(*arguments: str) -> str:
            return run(python, "-P", probe, *arguments, cwd=folder)

        commands = run(python, "-c", "from convnn.cli.app import COMMANDS; print(*COMMANDS)", cwd=folder).split()
        assert convnn("--version").startswith("convnn ")
        for command in commands:
            assert command in convnn(command, "--help"), f"{command} --help does not name its command"
        assert "quickstart" in convnn("presets")
        assert "Branching" in convnn("run", "quickstart", "--dry-run")
        assert "done" in convnn("run", "quickstart", "--num_epochs", "1", "--limit", "200", "--plain")
        assert "102 cells" in convnn("sweep", "check", "k")
        first_frame(python, probe, folder)
    print(f"the wheel works away from the source tree: {len(commands)} commands, a run and the app")


def installed(folder: Path) -> Path:
    """The interpreter of a new environment that holds the wheel beside the libraries of this one."""
    # the wheel is made from the source distribution, in a folder of its own: no file of an earlier build gets in
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder / "dist", ROOT, cwd=folder)
    wheel = next((folder / "dist").glob("*.whl"))
    venv.create(folder / "venv")
    python = folder / "venv" / "bin" / "python"
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip())
    # a plain line adds the folder to the path without reading the .pth files in it, such as the editable install's
    libraries = [path for path in sys.path if path.endswith("site-packages")] or [sysconfig.get_path("purelib")]
    (site / "libraries.pth").write_text("\n".join(libraries) + "\n")
    run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", wheel, cwd=folder)
    return python


def first_frame(python: Path, probe: Path, folder: Path) -> None:
    """Start the app on a terminal, wait for the preset on its first screen, and leave it."""
    app = Program("-P", probe, "tui", size=(110, 30), cwd=folder, python=python)
    try:
        app.until(lambda: "quickstart" in app.text, "the presets on the first screen")
        app.press("q")
        assert app.wait() == 0, app.text[-2000:]
        assert app.restored(), "the app left the terminal in another state"
    finally:
        app.close()


def run(*command: str | Path, cwd: Path) -> str:
    """The standard output of a command without the variables that could lead to the source tree."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "CONVNN_RUNS")}
    completed = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=cwd, env=environment)
    if completed.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{completed.stdout}{completed.stderr}")
    return completed.stdout


if __name__ == "__main__":
    main()
