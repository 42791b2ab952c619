"""Presets and the checks: every value and every contradiction is refused by name, and the later source wins."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import bad_options as bad_inputs

from convnn.config import toml
from convnn.config.options import BY_KEY, OPTIONS, value_at
from convnn.config.schema import RunConfig
from convnn.errors import UserError
from convnn.presets import resolve, store


def only(problems, key):
    matches = [problem for problem in problems if problem.key == key]
    assert matches, problems
    return matches[0]


@pytest.mark.parametrize("row", bad_inputs.FIELDS + bad_inputs.RULES, ids=str)
@pytest.mark.parametrize("way", ["preset", "typed"])
def test_bad_settings_are_refused_by_key_with_a_fix_that_fixes(row, way):
    if way == "preset":
        resolved = resolve.resolve(store.parse(row.toml, "some"))
    else:
        resolved = resolve.resolve(None, row.words_typed)
    problem = only(resolved.problems, row.key)
    assert all(word in problem.message for word in row.words), problem.message
    assert problem.fix
    assert (problem.file == "some") == (way == "preset")
    with pytest.raises(UserError):
        resolved.checked()
    assert problem.change
    mended = resolve.resolve(None, row.words_typed | {p: BY_KEY[p].text(v) for p, v in problem.change.items()})
    assert not [p for p in mended.problems if p.key == row.key and p.message == problem.message]


def test_every_field_has_a_row_of_bad_input():
    without = {"output.dir"}  # any text is a directory's name
    assert {row.key for row in bad_inputs.FIELDS} == set(BY_KEY) - without


@pytest.mark.parametrize("row", bad_inputs.PRESETS, ids=lambda row: repr(row["toml"]))
def test_bad_files_are_refused(row):
    problems = resolve.resolve(store.parse(row["toml"], "some")).problems
    problem = only(problems, row.get("key"))
    assert all(word in f"{problem.message} {problem.fix}" for word in row["words"]), problem


def test_a_sweep_file_is_named_as_one(tmp_path):
    path = tmp_path / "k.toml"
    path.write_text('base = "quickstart"\n[axes]\nlayer.K = [1, 4]\n', encoding="utf-8")
    (problem,) = store.read(str(path)).problems
    assert "sweep" in problem.message and problem.fix.endswith(f"convnn sweep run {path}")


def test_all_problems_come_at_once():
    preset = store.parse("[layer]\nK = 0\ntype = 'x'\n[nothing]\n[sampling]\ntype = 'random'\n", "some")
    keys = {problem.key for problem in resolve.resolve(preset).problems}
    assert keys == {"layer.K", "layer.type", "nothing", "sampling.num_samples"}


def test_flags_win_over_the_preset_and_the_preset_over_defaults():
    resolved = resolve.resolve(store.parse("[layer]\nK = 4\npadding = 2\n", "some"), {"layer.K": "5"})
    assert (resolved.config.layer.K, resolved.config.layer.padding) == (5, 2)
    assert [resolved.origins[f"layer.{key}"] for key in ("K", "padding", "type")] == ["flag", "preset some", "default"]


def test_a_flag_mends_what_the_preset_has_wrong():
    preset = store.parse("[layer]\nK = 0\n", "some")
    assert resolve.resolve(preset, {"layer.K": "4"}).checked().layer.K == 4


@pytest.mark.parametrize(("patience", "can_stop"), [(2, True), (3, False)])
def test_a_patience_that_no_run_of_so_few_epochs_exhausts_is_noted(patience, can_stop):
    typed = {"training.early_stop": patience, "training.num_epochs": 4, "data.val_share": 0.1}
    notes = resolve.resolve(None, typed).notes
    assert any("training.early_stop" in note for note in notes) is not can_stop


@pytest.mark.parametrize("path", sorted(Path("presets").glob("*.toml")), ids=lambda path: path.stem)
def test_our_presets_resolve_and_say_what_they_are(path):
    preset = store.read(str(path))
    assert preset.about
    resolve.resolve(preset).checked()


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.key)
def test_a_preset_written_is_the_preset_read(option):
    value = different(option)
    config = resolve.resolve(None, {option.key: value}).config
    assert value_at(config, option.key) == value != option.default
    if option.key == "output.dir":
        assert "dir" not in toml.dumps(config)  # belongs to one run
        return
    again = resolve.resolve(store.parse(toml.dumps(config))).config
    assert again == config
    assert set(tomllib.loads(toml.dumps(config))) == {option.section}
    if option.section != "output":
        assert resolve.resolve(store.parse(toml.dumps(config, whole=True))).config == config


def different(option):
    """An allowed value that is not the default."""
    if option.kind == "bool":
        return not option.default
    if option.kind == "choice":
        return next(choice for choice in option.choices if choice != option.default)
    if option.kind == "words":
        return ("one", "two")
    if option.kind == "text":
        return {"runtime.device": "cuda:1"}.get(option.key, "somewhere")
    low = option.lower if option.lower is not None else 0
    value = low + (1 if option.kind == "int" else 0.25)
    value = value if value != option.default else value + (1 if option.kind == "int" else 0.125)
    return (
        type(option.default)(value) if option.default is not None else (int if option.kind == "int" else float)(value)
    )


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.key)
def test_text_of_a_value_is_parsed_back(option):
    for value in (option.default, different(option)):
        assert option.parse(option.text(value)) == value


def test_names_are_looked_for_here_then_at_home_then_in_the_package(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    assert store.read("quickstart").about.startswith("vgg11 Branching")
    for folder, about in ((tmp_path / "home/convnn/presets", "mine"), (tmp_path / "presets", "here")):
        folder.mkdir(parents=True)
        (folder / "quickstart.toml").write_text(f"about = '{about}'\n")
        assert store.read("quickstart").about == about
    assert len(store.listed()["quickstart"]) == 3


def test_saving_never_replaces_unasked(tmp_path):
    path = tmp_path / "mine.toml"
    store.save(path, RunConfig(), "one")
    with pytest.raises(UserError, match="exists"):
        store.save(path, RunConfig(), "two")
    assert store.read(str(path)).about == "one"
    store.save(path, RunConfig(), "two", overwrite=True)
    assert store.read(str(path)).about == "two"


@pytest.mark.parametrize("name", ["a b", ".hidden", "-flag", "x" * 100, "a\nb"])
def test_a_preset_name_is_one_safe_component(name):
    with pytest.raises(UserError, match="cannot be a preset's name"):
        store.own_path(name)


def test_files_that_are_no_text_are_refused(tmp_path):
    path = tmp_path / "x.toml"
    path.write_bytes(b"about = 'a'\n# \xff\xfe\n")
    with pytest.raises(UserError, match="line 2"):
        store.read(str(path))
    path.write_bytes(b"#" * (toml.MAX_BYTES + 1))
    with pytest.raises(UserError, match="larger than"):
        store.read(str(path))
    os.mkfifo(tmp_path / "pipe.toml")
    with pytest.raises(UserError, match="no preset file"):
        store.read(str(tmp_path / "pipe.toml"))


@given(st.text() | st.binary().map(lambda data: data.decode("latin-1")))
def test_any_text_is_read_or_refused_in_words(text):
    resolved = resolve.resolve(store.parse(text))
    assert all(str(problem).isprintable() or "\n" in str(problem) for problem in resolved.problems)
    assert "\x1b" not in "".join(map(str, resolved.problems))


def test_a_grid_no_coarser_than_its_map_is_all_of_it_and_has_no_margin():
    typed = {"sampling.type": "spatial", "sampling.num_samples": "8", "sampling.sample_padding": "1", "layer.K": "4"}
    assert resolve.resolve(None, typed).checked()


def test_branching_slots_without_neighbour_channels_need_no_candidates():
    typed = {"layer.type": "Branching", "branching.ratio": "0.01", "model.width": "0.05", "layer.K": "30"}
    assert resolve.resolve(None, typed).checked()
