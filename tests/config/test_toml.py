"""Configuration files: written, read back, read for a run, and saved over with their comments kept."""

from __future__ import annotations

import os
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from support import bad_options
from support.file_access import opened

from convnn.config import toml
from convnn.config.options import BY_KEY
from convnn.config.schema import RunConfig
from convnn.errors import UserError
from convnn.presets import resolve, store
from convnn.runs.run import Run
from tui.screens.setup.draft import Draft


def configured(**values):
    return resolve.resolve(None, {key.replace("__", "."): value for key, value in values.items()}).config


@pytest.fixture
def image_folder(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(3):
            Image.new("RGB", (40, 40)).save(tmp_path / "images" / name / f"{number}.png")
    return tmp_path / "images"


def test_reading_the_configuration_of_a_folder_run_opens_one_file(tmp_path, image_folder):
    path = tmp_path / "config.toml"
    config = configured(data__dataset="folder", data__path=str(image_folder))
    path.write_text(toml.dumps(config, whole=True))
    toml.read_run(path)  # builds the schema, once for a process
    with opened(tmp_path) as paths:
        assert Run(tmp_path, "run").config() == config
    assert paths == [str(path)]


def test_resolving_opens_no_file(image_folder):
    typed = {"data.dataset": "folder", "data.path": str(image_folder)}
    with opened(image_folder) as paths:
        assert resolve.resolve(None, typed).dataset.image_size is None
    assert paths == []


def test_a_keystroke_in_the_form_opens_no_file_of_the_data_set(image_folder):
    for folder in (*image_folder.iterdir(), image_folder):
        os.utime(folder, (0, 0))  # unchanged for a while
    draft = Draft(typed={"data.dataset": "folder", "data.path": str(image_folder)})
    with opened(image_folder) as inspected:
        dataset = draft.inspect_dataset()
    with opened(image_folder) as again:
        assert draft.inspect_dataset() is dataset and dataset.image_size == (40, 40)
    draft.type("layer.K", "4")
    with opened(image_folder) as checked:
        assert draft.check(dataset).plan is not None
    assert str(image_folder / "cat" / "0.png") in inspected
    assert again == []  # its folders are asked for their modification times alone
    assert checked == []


@pytest.mark.parametrize("row", bad_options.FIELDS, ids=str)
def test_a_value_of_a_run_that_is_not_allowed_is_named_with_its_file(tmp_path, row):
    path = tmp_path / "config.toml"
    path.write_text(row.toml)
    if row.key == "output.test_only" and not isinstance(row.values[row.key], str):
        return
    with pytest.raises(UserError) as refused:
        toml.read_run(path)
    (problem,) = refused.value.problems
    assert (problem.key, problem.file) == (row.key, str(path)) and problem.fix
    assert all(word in problem.message for word in row.words)


def test_a_run_of_another_schema_is_refused_with_every_unknown_key(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text("K = 3\n[layer]\nk = 4\n[layers]\nK = 9\n[optimizer]\nnum_epochs = 9\n")
    with pytest.raises(UserError) as refused:
        toml.read_run(path)
    messages = {problem.key: problem.message for problem in refused.value.problems}
    assert messages.keys() == {"K", "layer.k", "layers", "optimizer.num_epochs"}
    assert "layer.K" in messages["K"] and "layer.K" in messages["layer.k"]
    assert "training.num_epochs" in messages["optimizer.num_epochs"]


def test_a_run_is_read_whatever_the_rules_think_of_it(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text("[layer]\nK = 1000\n")
    assert toml.read_run(path).layer.K == 1000


COMMENTED = """\
# how we train
about = "ours"  # one line

[layer]
K   =   4        # four neighbors
type = 'Branching' # single quotes
# similarity_type = "Loc"

[optimizer] # slow
lr = 1e-4

[training]
seed = 0 # the default, written out
batch_size = 64
"""


def test_saving_over_a_preset_keeps_comments_and_changes_values(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(COMMENTED)
    values = store.parse(COMMENTED).values
    config = resolve.resolve(None, {**values, "layer.K": 6, "training.batch_size": 256, "model.width": 0.5}).config
    store.save(path, config, "theirs", overwrite=True)
    text = path.read_text()
    expected = (
        COMMENTED.replace("K   =   4", "K   =   6").replace('"ours"', '"theirs"').replace("batch_size = 64\n", "")
    )
    assert text.startswith(expected) and text[len(expected) :].strip() == "[model]\nwidth = 0.5"
    assert resolve.resolve(store.read(str(path))).config == config


def test_what_is_no_longer_set_is_removed(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(COMMENTED)
    store.save(path, RunConfig(), "", overwrite=True)
    assert store.read(str(path)).values == {"training.seed": 0} and not store.read(str(path)).about
    assert "# slow" not in tomllib.loads(path.read_text()) and "# how we train" in path.read_text()


@pytest.mark.parametrize(
    "text",
    [
        "not [ toml",
        "layer.K = 4\nlayer.type = 'ConvNN'\n",
        "layer = { K = 4, padding = 0 }\n",
        "[layer]\nK = 4\n[model]\nwidth = 2.0\n[nothing]\nx = 1\n",
        "layer = 3\n[layers.x]\ny = 1\n",
        "[layer]\nk = 3\nK = 'x'\n[output]\ndir = 'somewhere'\n",
    ],
)
def test_whatever_is_saved_over_the_preset_read_is_the_one_saved(tmp_path, text):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    config = configured(layer__K="7", run__tags="a b", data__resize="64", layer__padding="3")
    store.save(path, config, "about it", overwrite=True)
    again = store.read(str(path))
    assert resolve.resolve(again).checked() == config and again.about == "about it"


@given(st.text(), st.sampled_from(["", COMMENTED]))
def test_any_text_can_be_saved_over(text, before):
    config = configured(layer__K="7")
    edited, _ = toml.updated(before + text, config, "x")
    assert resolve.resolve(store.parse(edited)).checked() == config


@pytest.mark.parametrize(("text", "has_comments"), [(COMMENTED, True), ("not [ toml # x", False)])
def test_whether_comments_are_kept_is_known_before_saving(text, has_comments):
    config = configured(layer__K="7")
    assert store.keeps_comments(text, config, "x") is has_comments
    assert ("#" in toml.updated(text, config, "x")[0]) is has_comments


def test_a_whole_configuration_has_every_option_but_the_output():
    tables = tomllib.loads(toml.dumps(RunConfig(), whole=True))
    keys = {f"{section}.{field}" for section, fields in tables.items() for field in fields}
    assert keys == {key for key in BY_KEY if not key.startswith("output.")}


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("[layer\nK = 9", "close the name of the section"),
        ("[layer]]\nK = 9", "one pair of brackets"),
        ("[optimizer]\nlr = .5", "0.5"),
        ("[optimizer]\nlr = 1\nlr = 2", "write it once"),
        ("[layer]\n[layer]", "write it once"),
        ("[layer]\ntype = ConvNN", '"ConvNN"'),
        ("[data]\naugment = True", "write true"),
        ("[layer]\nK : 9", "= stands before"),
        ("[layer]\nK = ", "a value is missing"),
        ("[run]\ntags = ['a'", "close the list"),
        ('[layer]\ntype = "ConvNN', "quote is not closed"),
        ('[data]\npath = "C:\\Users"', "single quotes"),
        ("x = " + "[" * 3000, "remove the brackets"),
        (f"[training]\nseed = {'9' * 5000}", "19 digits"),
    ],
)
def test_what_to_do_about_a_syntax_error_fits_it(text, advice):
    with pytest.raises(UserError) as refused:
        toml.loads(text)
    assert advice in refused.value.problems[0].fix


@pytest.mark.parametrize(
    ("key", "value", "fix"),
    [
        ("abut", "a word", "rename it to about, or remove it"),
        ("lr", 0.1, "write lr in [optimizer]"),
        ("optimizer.batch_size", 3, "write batch_size in [training]"),
        ("optimizer.momentun", 3, "rename it to momentum, or remove it"),
        ("optimiser", {}, "rename it to optimizer, or remove it"),
        ("zzz", 3, "remove it"),
        ("run.on-finish", "true", "remove it, and give --on_finish to the command"),
    ],
)
def test_an_unknown_key_is_corrected_where_it_stands(key, value, fix):
    assert toml.unknown_key(key, value).fix == fix
