"""`convnn verify-resume`: train a preset undisturbed and killed, and show that both end with the same weights."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from convnn.cli import arguments
from convnn.cli.output import write_json
from convnn.errors import Exit, UserError
from convnn.hardware import check_device
from convnn.presets.resolve import resolve_named
from convnn.terminal.console import out, say
from convnn.text import plural

MAX_DIFFERENCES = 10  # printed
EXAMPLES = """
convnn verify-resume quickstart
convnn verify-resume quickstart --kills 3 --device cpu
"""


def verify_resume(
    preset: arguments.Preset = None,
    *,
    typed: dict[str, Any],
    kills: Annotated[
        int, typer.Option("--kills", metavar="N", min=1, max=100, help="how often the second run is killed")
    ] = 1,
    as_json: arguments.Json = False,
    runs: arguments.RunsFolder = None,
) -> None:
    """Check that a killed and resumed run ends with the weights of an undisturbed one, bit for bit.

    The configuration is trained twice, for no more epochs than the kills need. The exit code is 1 if anything differs.
    """
    resolved = resolve_named(preset, typed)
    full_config = resolved.checked()
    if resolved.dataset.problem is not None:
        raise UserError(resolved.dataset.problem, Exit.DATA)
    check_device(full_config.runtime.device)
    from convnn.runs.run import runs_root
    from convnn.worker import resume_trial

    config = resume_trial.shortened(full_config, kills)
    epochs = config.training.num_epochs
    if epochs < full_config.training.num_epochs:
        say(f"training {epochs} of {full_config.training.num_epochs} epochs, enough for this check")
    result = resume_trial.run_trial(config, runs_root(runs), kills, say)
    if as_json:
        document = {
            "agree": not result.differences,
            "kills": list(result.kills),
            "digest": result.digest,
            "differences": list(result.differences),
        }
        write_json(document)
    else:
        verdict = "differs" if result.differences else "the same, bit for bit"
        steps = ""
        if result.kills:
            steps = f" (steps saved: {', '.join(map(str, result.kills))})"
        out().print_line(f"{verdict}: killed {plural(len(result.kills), 'time')}{steps}; digest {result.digest[:16]}")
        for difference in result.differences[:MAX_DIFFERENCES]:
            out().print_line(f"  {difference}")
        if len(result.differences) > MAX_DIFFERENCES:
            out().print_line(f"  and {len(result.differences) - MAX_DIFFERENCES} more")
    raise typer.Exit(Exit.FAILED if result.differences else Exit.DONE)
