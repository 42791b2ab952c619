"""`convnn verify-resume`: train a preset undisturbed and killed, and show that both end with the same weights."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from convnn.cli.arguments import PresetArgument, RunsOption
from convnn.cli.console import out, say, write_json
from convnn.data.catalog import DATASETS
from convnn.errors import Exit
from convnn.presets.resolve import resolve_with_data
from convnn.presets.store import read

SHOWN = 10  # differences


def verify_resume(
    preset: PresetArgument = None,
    *,
    typed: dict[str, Any],
    kills: Annotated[int, typer.Option("--kills", min=1, max=100, help="how often the second run is killed")] = 1,
    json: Annotated[bool, typer.Option("--json", help="one JSON document")] = False,
    runs: RunsOption = None,
) -> None:
    """Train a configuration twice, undisturbed and killed with SIGKILL and resumed: do the weights agree bit for bit?

    No more epochs are trained than the kills need. Exit code 1 if anything differs.
    """
    resolved = resolve_with_data(None if preset is None else read(preset), typed)
    wanted = resolved.checked()
    if resolved.dataset.problem is not None and DATASETS[wanted.data.dataset].download is None:
        from convnn.errors import UserError

        raise UserError(resolved.dataset.problem, Exit.DATA)
    from convnn.runs.run import runs_root
    from convnn.worker import resume_check

    config = resume_check.shortened(wanted, kills)
    if config.training.num_epochs < wanted.training.num_epochs:
        say(f"{config.training.num_epochs} of {wanted.training.num_epochs} epochs are enough for this")
    found = resume_check.both_ways(config, runs_root(runs), kills, (lambda line: None) if json else say)
    if json:
        write_json(
            {
                "agree": not found.differences,
                "kills": list(found.kills),
                "digest": found.digest,
                "differences": list(found.differences),
            }
        )
    else:
        times = f"killed {len(found.kills)} times, with {', '.join(map(str, found.kills)) or 'no'} steps saved"
        out().print(
            f"{'differs' if found.differences else 'the same, bit for bit'}: {times}; digest {found.digest[:16]}",
            soft_wrap=True,
        )
        for difference in found.differences[:SHOWN]:
            out().print_line(f"  {difference}")
        if len(found.differences) > SHOWN:
            out().print(f"  and {len(found.differences) - SHOWN} more")
    raise typer.Exit(Exit.FAILED if found.differences else Exit.DONE)
