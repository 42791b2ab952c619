"""Build the wheel, install it away from the source beside the installed libraries, and dry-run its own preset there."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        _run("-m", "build", "--wheel", "--no-isolation", "--outdir", str(place / "dist"), str(ROOT))
        wheel = next((place / "dist").glob("*.whl"))
        _run("-m", "pip", "install", "--quiet", "--no-deps", "--target", str(place / "site"), str(wheel))
        environment = os.environ | {"PYTHONPATH": str(place / "site")}
        command = "import convnn, sys; assert '/site/' in convnn.__file__, convnn.__file__; "
        command += "from convnn.cli import main; main(['run', 'quickstart', '--dry-run'])"
        shown = _run("-c", command, cwd=place, env=environment)
        assert "Branching" in shown, shown
    print("the wheel installs and resolves its quickstart preset")


def _run(*arguments: str, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, cwd=cwd, env=env)
    if done.returncode:
        sys.exit(f"{' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main()
