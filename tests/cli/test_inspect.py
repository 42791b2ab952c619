"""`convnn inspect` on a small trained run: its neighbors are the layer's own, and nothing of the run changes."""

from __future__ import annotations

import hashlib
import json
import shutil
import warnings
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image
from support import training
from support.inspections import layer

from convnn.errors import Exit, UserError
from convnn.neighbors import inspection as inspections
from convnn.neighbors.inspection import BY_LOCATION, Point
from convnn.runs.run import Run
from convnn.worker.inspect_run import image_of_split, inspect_run
from convnn.worker.load_run import TrainedRun

OPTIONS = {"layer": "Branching", "K": 5, "limit": 20, "val_share": 0.5, "augment": True, "num_epochs": 2}
RANDOM = {"layer": "ConvNN_Attn", "K": 4, "sampling_type": "random", "num_samples": 9, "num_epochs": 1}
SHUFFLED = OPTIONS | RANDOM | {"shuffle_pattern": "BA", "shuffle_scale": 2, "kernel_size": 5}
SLOT = "stage1.block1.conv1"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Two runs of one model size on the same images, and one of ordinary convolutions."""
    folder = tmp_path_factory.mktemp("runs")
    for name, options in (("first", OPTIONS), ("second", SHUFFLED), ("plain", {"kernel_size": 2})):
        run, _ = training.train(folder, training.config(**({"num_epochs": 1, "limit": 20} | options)))
        run.path.rename(folder / f"20260101-000000-{name}")
    return folder


@pytest.fixture
def convnn(in_process, root, monkeypatch):
    monkeypatch.setenv("CONVNN_RUNS", str(root))
    return in_process


def trained(root, name):
    path = root / f"20260101-000000-{name}"
    return TrainedRun(Run(path, path.name))


def digest(folder: Path) -> str:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return hashlib.sha256(b"".join(bytes(path) + path.read_bytes() for path in files)).hexdigest()


@pytest.mark.parametrize("name", ["first", "second"])
def test_the_indices_of_every_layer_are_its_own(root, name):
    run = trained(root, name)
    inspection = inspect_run(run, "last", image_of_split(run, "last", "test", 3))
    model, own = run.model("last"), {}
    for module_name, module in model.named_modules():
        if hasattr(module, "K") and name == "first":

            def add(layer, args, key=module_name):
                own[key] = layer._neighbor_index(args[0], args[0].shape[2:])

            module.register_forward_pre_hook(add)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in run.normalization)
    pixels = torch.from_numpy(inspection.pixels).permute(2, 0, 1).float() / 255
    with torch.inference_mode():
        logits = model(((pixels - mean) / std)[None])
    assert len(inspection.layers) == len(inspection.slots) == 16
    assert inspection.probability == pytest.approx(float(logits.softmax(1).max()), abs=1e-5)
    for module_name, index in own.items():
        layer = inspection.layers[module_name.removesuffix(".first")]
        assert np.array_equal(layer.index, index[0].numpy()), module_name
    if name == "second":
        layer = inspection.layers[SLOT]
        assert (layer.sides, layer.patch, layer.candidates, layer.sampling) == ((4, 4), 2, 9, "random")
        assert layer.position(Point(7, 2)) == Point(3, 1)
        assert layer.window == 3  # kernel_size has no effect on attention
        assert len(np.unique(layer.index)) <= 9 + 16  # the candidates and the queries


def test_a_document_names_the_neighbors_and_nothing_is_written_into_the_run(convnn, root):
    before = digest(root)
    code, out, err = convnn("inspect", "first", "--at", "0,7", "--image", "1", "--split", "val", "--json")
    document = json.loads(out)
    assert (code, document["split"], document["checkpoint"], document["pixel"]) == (0, "val", "best", [0, 7])
    assert document["layers_with_neighbors"] == document["slots"]
    layer = document["layer"]
    assert (layer["slot"], layer["query"], layer["K"], len(layer["neighbors"])) == (SLOT, [0, 7], 5, 5)
    first = layer["neighbors"][0]
    assert first["query"] and first["position"] == [0, 7] and first["score"] == pytest.approx(1)
    assert all((neighbor["position"] is None) == neighbor["padding"] for neighbor in layer["neighbors"])
    assert digest(root) == before
    assert "Traceback" not in err


def test_two_checkpoints_are_compared_slot_by_slot(convnn):
    _, out, _ = convnn("inspect", "first", "--checkpoint", "1", "--against", ":2", "--json")
    document = json.loads(out)
    against = document["against"]
    assert (document["epoch"], against["epoch"]) == (1, 2)
    assert len(against["shared"]) + len(against["lost"]) == len(against["shared"]) + len(against["gained"]) == 4
    assert 0 <= against["shared_over_map"] <= 1
    _, out, _ = convnn("inspect", "first", "--against", "first", "--json")
    assert json.loads(out)["against"]["shared_over_map"] == 1


def test_neighbors_of_equal_scores_are_said_to_tie(convnn):
    first = layer("stage1.conv1", 4, 1)
    query = Point(0, 0)
    assert first.ties(query) == []
    tied = replace(first, scores=np.float32([1, 1, 0.5, 0.5 + 1e-7, 0.5]) * np.ones((16, 1), np.float32))
    assert [neighbor.slot for neighbor in tied.ties(query)] == [3, 4, 5]
    assert replace(tied, score=BY_LOCATION).ties(query) == []
    assert replace(tied, index=tied.index[:, :1], scores=tied.scores[:, :1]).ties(query) == []
    assert "2 to 5 tie: arbitrary choice" in convnn("inspect", "first", "--image", "0")[1]  # of a gray image


def test_an_image_file_is_resized_and_the_resizing_is_said(convnn, tmp_path):
    Image.new("RGB", (20, 10), "red").save(tmp_path / "red.png")
    code, out, err = convnn("inspect", "first", "--image", tmp_path / "red.png")
    assert code == 0 and "resized from 20x10 to 8x8" in err
    assert "label" not in out and "in the 3x3 window" in out


def test_figures_are_written_once(convnn, tmp_path):
    for ending in ("svg", "png", "json", "safetensors"):
        file = tmp_path / f"neighbors.{ending}"
        code, _, err = convnn("inspect", "first", "--against", ":last", "--out", file)
        assert code == 0 and f"written to {file}" in err
    svg = ElementTree.parse(tmp_path / "neighbors.svg").getroot()
    assert len(svg.findall("{*}image")) == 2 and "pixel 4,4" in svg.find("{*}desc").text
    with Image.open(tmp_path / "neighbors.png") as image:
        assert "pixel 4,4" in image.info["Description"] and image.width > 2000
    assert json.loads((tmp_path / "neighbors.json").read_text())["against"]["lost"] is not None
    inspection, against = inspections.read(tmp_path / "neighbors.safetensors")
    assert inspection.layers[SLOT].index.shape == (64, 5) and inspection.pixels.shape == (8, 8, 3)
    assert (inspection.checkpoint, against.checkpoint) == ("best", "last")
    with pytest.raises(UserError, match="no file of inspected neighbors"):
        inspections.read(tmp_path / "neighbors.png")
    code, _, err = convnn("inspect", "first", "--out", tmp_path / "neighbors.svg")
    assert code == Exit.USAGE and "is there already" in err


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (["first", "--at", "8,0"], Exit.USAGE, "rows 0 to 7 and columns 0 to 7"),
        (["first", "--at", "8"], Exit.USAGE, "--at is '8'"),
        (["first", "--layer", "stage1.block1.con"], Exit.USAGE, "Did you mean stage1.block1.conv2"),
        (["plain"], Exit.USAGE, "no layer of 20260101-000000-plain chooses neighbors"),
        (["first", "--against", "plain"], Exit.USAGE, "20260101-000000-plain chooses no neighbors"),
        (["first", "--against", "second"], Exit.USAGE, "maps of 8x8 and 4x4"),
        (["first", "--checkpoint", "3"], Exit.NO_RUN, "it has those of epoch 1, 2, best and last"),
        (["first", "--against", ":9"], Exit.NO_RUN, "no checkpoint of epoch 9"),
        (["first", "--checkpoint", "newest"], Exit.USAGE, "best, last or the number of an epoch"),
        (["first", "--image", "20"], Exit.USAGE, "numbered from 0 to 19"),
        (["second", "--split", "val", "--image", "99"], Exit.USAGE, "numbered from 0"),
        (["plain", "--split", "val"], Exit.USAGE, "has no val images"),
        (["first", "--split", "tets"], Exit.USAGE, "Did you mean test"),
        (["first", "--image", "none.png"], Exit.DATA, "no such file"),
        (["first", "--image", __file__, "--data_path", "data"], Exit.USAGE, "--data_path is for images of the data"),
        (["first", "--against", ""], Exit.NO_RUN, "no run is called ''"),
        (["first", "--image", __file__], Exit.DATA, "cannot be read as an image"),
        (["first", "--out", "x.gif"], Exit.USAGE, "must end in .png"),
        (["first", "--out", "~no-such-user/x.png"], Exit.USAGE, "--out: there is no home directory ~no-such-user"),
        (["nowhere"], Exit.NO_RUN, "no run is called"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_cannot_be_inspected_ends_with_its_code_and_the_reason(convnn, argv, code, words):
    result, out, err = convnn("inspect", *argv)
    assert (result, out) == (code, "")
    assert words in err and "Traceback" not in err, err


def test_random_candidates_are_said_to_be_a_fixed_draw(convnn):
    _, _, err = convnn("inspect", "second")
    assert "9 random candidates are drawn anew at every training step" in err


def test_a_run_that_was_stopped_in_its_first_epoch_has_its_last_checkpoint(in_process, tmp_path):
    options = {"layer": "ConvNN", "K": 4, "limit": 40, "num_epochs": 1}
    run, _ = training.train(tmp_path, training.config(**options), commands=training.StopAt(2))
    line = ("inspect", f"{run.path}/", "--layer", SLOT)
    code, _, err = in_process(*line)
    assert code == Exit.NO_RUN and "use --checkpoint last" in err
    code, out, _ = in_process(*line, "--checkpoint", "last")
    assert code == 0 and "last (step " in out


def test_what_was_typed_is_checked_before_torch_is_loaded(convnn):
    for words in (("--image", "none.png"), ("--split", "tets"), ("--image", __file__, "--split", "val")):
        assert "loading torch" not in convnn("inspect", "first", *words)[2]


def test_a_path_that_the_data_set_has_no_use_for_is_noted(convnn):
    code, _, err = convnn("inspect", "first", "--data_path", "data")
    assert code == 0 and "note: data.path has no effect with dataset digits" in err


def test_an_even_kernel_is_no_warning_of_torch(convnn):
    torch.set_warn_always(True)
    try:
        with warnings.catch_warnings(record=True) as caught:
            assert convnn("inspect", "plain")[0] == Exit.USAGE  # after its forward pass
    finally:
        torch.set_warn_always(False)
    assert not caught


def test_data_that_was_moved_is_named_and_other_data_is_noticed(in_process, tmp_path):
    data = tmp_path / "data"
    for file in ("train/cat/0", "train/cat/1", "train/dog/0", "train/dog/1", "test/cat/0", "test/dog/0"):
        path = data / f"{file}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (len(file), 9 * int(path.stem), 99)).save(path)
    options = {"layer": "ConvNN", "K": 4, "num_epochs": 1, "dataset": "folder", "data_path": str(data), "limit": None}
    run, _ = training.train(tmp_path, training.config(**options))
    moved = data.rename(tmp_path / "moved")
    line = ("inspect", f"{run.path}/")
    code, _, err = in_process(*line)
    assert code == Exit.DATA and "use --data_path" in err
    code, out, err = in_process(*line, "--data_path", moved)
    assert code == 0 and "test image 0: label cat" in out and "note:" not in err
    Image.new("RGB", (8, 8), "white").save(moved / "test/cat/0.png")
    code, _, err = in_process(*line, "--data_path", moved)
    assert code == 0 and "note: the test images or their labels are not those of the run" in err
    for split in ("train", "test"):
        (moved / split / "cat").rename(moved / split / "bird")
    code, _, err = in_process(*line, "--data_path", moved)
    assert code == Exit.DATA and "the classes of the data are not those of the run" in err


def test_a_damaged_checkpoint_is_an_error_of_storage(convnn, root, tmp_path, monkeypatch):
    copied = tmp_path / "20260102-000000-damaged"
    shutil.copytree(root / "20260101-000000-first", copied)
    for file in copied.glob("checkpoints/*/model.safetensors"):
        file.write_bytes(file.read_bytes()[:-1] + b"\0\0")
    monkeypatch.setenv("CONVNN_RUNS", str(tmp_path))
    code, _, err = convnn("inspect", "damaged")
    assert code == Exit.STORAGE and "damaged" in err
