"""`convnn inspect`: which neighbors the layers of a trained run choose on an image; nothing is written into the run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from convnn.cli import arguments
from convnn.cli.output import data_width, print_sentences, write_json
from convnn.config.active import inactive_messages
from convnn.errors import Exit, UserError, did_you_mean, naming_flag
from convnn.neighbors.export import FORMATS, document, write
from convnn.paths import new_file
from convnn.terminal.console import out as console_of_data
from convnn.terminal.console import say

if TYPE_CHECKING:
    from convnn.neighbors.inspection import Inspection, LayerNeighbors, Point
    from convnn.runs.run import Run

EXAMPLES = """
convnn inspect @last
convnn inspect @last --layer stage2.conv1 --image 7 --at 12,20 --checkpoint 6
convnn inspect @last --image cat.png --against :last --out neighbors.svg
"""
OTHER_RUN = "choose a run with ConvNN or Branching layers: convnn runs 'has:K'"


def inspect(
    run: arguments.Run = "@last",
    layer: Annotated[
        str | None, typer.Option("--layer", metavar="NAME", help="a slot, as `summary` names it; without it the first")
    ] = None,
    image: Annotated[
        str, typer.Option("--image", metavar="N|PATH", help="number of an image of the split, from 0, or a file")
    ] = "0",
    split: Annotated[
        str | None,
        typer.Option(
            "--split",
            metavar="|".join(arguments.SPLITS),
            help="split of the image, else test",
            autocompletion=arguments.completion(arguments.SPLITS),
        ),
    ] = None,
    query: Annotated[
        str | None,
        typer.Option("--at", metavar="Y,X", help="pixel of the query from the top left, from 0; without it the center"),
    ] = None,
    data_path: Annotated[
        str | None,
        typer.Option("--data_path", metavar="DIR", help="where the data set is now, if the run read it elsewhere"),
    ] = None,
    checkpoint: Annotated[
        str,
        typer.Option(
            "--checkpoint",
            metavar="best|last|EPOCH",
            help="weights to inspect",
            autocompletion=arguments.complete_checkpoints,
        ),
    ] = "best",
    against: Annotated[
        str | None,
        typer.Option(
            "--against",
            metavar="RUN[:CHECKPOINT]",
            help="another run or checkpoint on the same image; :last is that of this run",
            autocompletion=arguments.complete_runs,
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help=f"write a new file: {', '.join(FORMATS)} (all layers)")
    ] = None,
    as_json: arguments.Json = False,
    runs: arguments.RunsFolder = None,
) -> None:
    """Show which neighbors a layer of a trained run chooses for a pixel of an image, beside the ordinary window.

    The indices are those that the layer computes with in evaluation. Nothing is written into the run.
    """
    from convnn.runs.find import find_run
    from convnn.runs.run import runs_root

    root = runs_root(runs)
    target = find_run(run, root)
    second = point = None
    if against is not None:
        second = _against(against, target, root)
    if out is not None:
        with naming_flag("--out"):
            out = new_file(out, FORMATS)
    if query is not None:
        point = _point(query)
    _check_layer(target, layer)
    _check_checkpoint(checkpoint)
    source = _image_source(image, split, data_path)
    if data_path is not None:
        for note in inactive_messages(target.config(), {"data.path"}):
            say(f"note: {note}")
    say(f"inspecting {target.name}: loading torch ...")
    from convnn.worker.inspect_run import image_of_file, image_of_split, image_size, inspect_run
    from convnn.worker.load_run import TrainedRun

    trained = TrainedRun(target)
    trained.find_checkpoint(checkpoint)
    pixel = _checked_pixel(image_size(trained), point)
    if isinstance(source, Path):
        inspected_image = image_of_file(trained, source)
    else:
        inspected_image = image_of_split(trained, checkpoint, split or "test", source, data_path)
    inspection = inspect_run(trained, checkpoint, inspected_image)
    chosen = _layer_neighbors(inspection, layer)
    other_inspection = None
    if second is not None:
        second_run, second_checkpoint = second
        other_inspection = inspect_run(TrainedRun(second_run), second_checkpoint, inspected_image)
        _check_comparable(chosen, other_inspection)
    for note in inspection.notes:
        say(f"note: {note}")
    if chosen.sampling == "random":
        say(
            f"note: the {chosen.candidates} random candidates are drawn anew at every training step; in evaluation, as "
            "shown here, they are one fixed draw by the size of the map, whatever the seed"
        )
    if out is not None:
        write(out, inspection, chosen.slot, pixel, other_inspection)
        say(f"written to {out}")
    if as_json:
        return write_json(document(inspection, chosen.slot, pixel, other_inspection))
    if out is None:
        _print(inspection, chosen, pixel, other_inspection)
    return None


# -- what was typed ----------------------------------------------------------------------------------------------------


def _against(reference: str, target: Run, root: Path) -> tuple[Run, str]:
    """Return the run and the checkpoint that --against names: RUN, RUN:CHECKPOINT or :CHECKPOINT."""
    from convnn.runs.find import find_run

    name, separator, checkpoint = reference.rpartition(":")
    if not separator or not (checkpoint in arguments.CHECKPOINTS or _is_number(checkpoint)):
        name, checkpoint = reference, "best"  # the colon of @best:METRIC
    if name or not separator:  # "" is no checkpoint of the same run
        target = find_run(name, root)
    return target, checkpoint


def _is_number(word: str) -> bool:
    return word.isascii() and word.isdecimal()


def _check_checkpoint(name: str) -> None:
    if name not in arguments.CHECKPOINTS and not _is_number(name):
        message = f"--checkpoint is {name!r}: must be {', '.join(arguments.CHECKPOINTS)} or the number of an epoch"
        raise UserError(message, key="checkpoint", value=name)


def _point(text: str) -> Point:
    from convnn.neighbors.inspection import Point

    y, comma, x = text.partition(",")
    if not (comma and all(_is_number(word.strip()) and len(word) < 10 for word in (y, x))):
        raise UserError(f"--at is {text!r}: must be Y,X in pixels, such as 12,20", key="at", value=text)
    return Point(int(y), int(x))


def _check_layer(run: Run, name: str | None) -> None:
    """Raise UserError for a name that is no slot of the run's model."""
    from convnn.models.architectures import slots

    config = run.config()
    known = [slot.name for slot in slots(config.model.name, config.model.width, (32, 32))]
    if name is not None and name not in known:
        message = f"--layer is {name!r}: there is no such slot{did_you_mean(name, known)}"
        raise UserError(message, key="layer", value=name, fix=f"choose one of {', '.join(known)}")


def _image_source(image: str, split: str | None, data_path: str | None) -> int | Path:
    """Return the number of an image of the data set, or the path of a file. Raises UserError where it is neither."""
    if _is_number(image) and len(image) < 10:
        if split is not None and split not in arguments.SPLITS:
            raise UserError(arguments.unknown_choice("split", split, arguments.SPLITS))
        return int(image)
    path = Path(image).expanduser()
    if not path.is_file():
        message, fix = f"--image is {image!r}: there is no such file", "give the path of an image, or a number from 0"
        raise UserError(message, Exit.DATA, key="image", value=image, fix=fix)
    for key, value in (("split", split), ("data_path", data_path)):
        if value is not None:
            raise UserError(f"--{key} is for images of the data set", key=key, fix="leave it out")
    return path


def _layer_neighbors(inspection: Inspection, name: str | None) -> LayerNeighbors:
    """Return the layer of a slot, or the first. Raises UserError for one that chooses no neighbors."""
    if not inspection.layers:
        message = f"no layer of {inspection.run} chooses neighbors: all of its convolutions are ordinary ones"
        raise UserError(message, key="layer", fix=OTHER_RUN)
    name = name or next(iter(inspection.layers))
    if name not in inspection.layers:
        fix = f"choose one of {', '.join(inspection.layers)}"
        raise UserError(f"{name} is an ordinary convolution: it chooses no neighbors", key="layer", fix=fix)
    return inspection.layers[name]


def _check_comparable(layer: LayerNeighbors, against: Inspection) -> None:
    second = against.layers.get(layer.slot)
    if second is None:
        message = f"{against.run} chooses no neighbors in {layer.slot}"
        fix = OTHER_RUN
        if against.layers:
            fix = f"choose --layer {' or '.join(list(against.layers)[:3])}"
        raise UserError(message, key="against", fix=fix)
    if second.sides != layer.sides:
        sizes = " and ".join(f"{sides[0]}x{sides[1]}" for sides in (layer.sides, second.sides))
        raise UserError(f"{layer.slot} has maps of {sizes} in the two runs", key="against")


def _checked_pixel(image_size: tuple[int, int], point: Point | None) -> Point:
    """Return the pixel of the query, the center without one. Raises UserError for one outside the image."""
    from convnn.neighbors.inspection import Point

    height, width = image_size
    if point is None:
        return Point(height // 2, width // 2)
    if point.y >= height or point.x >= width:
        message = f"--at is {point.y},{point.x}: the image has rows 0 to {height - 1} and columns 0 to {width - 1}"
        raise UserError(message, key="at", value=f"{point.y},{point.x}")
    return point


# -- what is shown -----------------------------------------------------------------------------------------------------


def _print(inspection: Inspection, layer: LayerNeighbors, pixel: Point, against: Inspection | None) -> None:
    from convnn.neighbors.inspection import shared_share
    from convnn.terminal.neighbor_view import neighbor_view

    console = console_of_data()
    share = None
    if against is not None:
        share = shared_share(layer, against.layers[layer.slot])
    view = neighbor_view(
        inspection,
        layer.slot,
        pixel,
        data_width(console),
        letters=not console.shows_images,
        against=against,
        share=share,
        draws_image=console.is_terminal,
    )
    for line in view.lines:
        console.print(line, soft_wrap=True)
    print_sentences([f"layers with neighbors: {', '.join(inspection.layers)}"])
