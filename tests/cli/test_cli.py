"""The command line, called in this process: what it refuses, says and prints."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import types
from importlib import import_module
from itertools import takewhile

import pytest
import typer
from support import bad_options as bad_inputs
from support.runs import new

from convnn.cli.app import ALIASES, COMMANDS, Command
from convnn.cli.show import leaving_the_run_alone
from convnn.config import command_line
from convnn.config.options import BY_KEY, OPTIONS
from convnn.errors import Exit
from convnn.events import Finished, Started, Step
from convnn.presets import resolve, store
from convnn.runs.marker import write_marker
from convnn.runs.resume import resumable_run


@pytest.fixture
def convnn(in_process, tmp_path, monkeypatch):
    """Run a command with its runs in a fresh folder: (exit code, stdout, stderr)."""
    monkeypatch.setenv("CONVNN_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("COLUMNS", "200")

    return in_process


@pytest.mark.parametrize("row", bad_inputs.FIELDS + bad_inputs.RULES, ids=str)
def test_bad_settings_end_with_2_and_name_the_place(row, convnn, tmp_path):
    code, out, err = convnn("run", *row.argv)
    switch = BY_KEY[row.key].kind == "bool"  # a switch takes no word: what follows it is something else
    assert (code, out) == (2, "")
    assert switch or all(word in err for word in row.words), err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("row", bad_inputs.LINES, ids=lambda row: " ".join(row["argv"]))
def test_bad_lines_end_with_their_code_and_make_nothing(row, convnn, tmp_path):
    code, out, err = convnn("run", *row["argv"])
    assert (code, out) == (row.get("code", 2), "")
    assert all(word in err for word in row["words"]), err
    assert "Traceback" not in err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "words",
    [
        "runs --sort x",
        "runs --group x",
        "runs --save-view v --columns x",
        "table --rows x",
        "table --rows K --cell name",
    ],
)
def test_a_field_that_is_none_is_named_with_its_flag(words, convnn):
    flag = words.split()[-2]
    code, _, err = convnn(*words.split())
    assert code == 2 and err.startswith(f"error: {flag}: "), err


@pytest.mark.skipif(sys.platform == "darwin", reason="where mps may be there")
def test_a_bad_directory_or_device_is_refused_before_torch_is_loaded(convnn, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes").touch()
    for words, code in ((("--output_dir", str(tmp_path / "full")), Exit.USAGE), (("--device", "mps"), Exit.DATA)):
        ended, _, err = convnn("run", "quickstart", *words)
        assert ended == code and "loading torch" not in err, err
    assert convnn("lr-range", "quickstart", "--device", "mps")[0] == Exit.DATA


@pytest.mark.parametrize("words", [["import", ""], ["export", "@last", "--tensorboard", ""], ["runs", "--runs="]])
def test_an_empty_path_is_not_the_current_folder(words, convnn):
    code, _, err = convnn(*words)
    assert code == 2 and "is empty: must be a path" in err


@pytest.mark.parametrize(
    ("line", "fix"),
    [
        (("export", "@last"), "--csv, --json or --tensorboard"),
        (("export", "@last", "--csv", "--tensorboard", "logs"), "exclude each other"),
        (("show", "--plain"), "--follow"),
        (("rm", "@last", "--count", "2"), "--undo"),
        (("lr-range", "quickstart", "--steps", "abc"), "--steps is 'abc': must be a whole number"),
        (("lr-range", "quickstart", "--steps", "3"), "--steps is 3: must be at least 20"),
        (("queue", "move", "first", "1"), "POSITION is 'first': must be a whole number"),
        (("sweep", "show"), "give NAME: as `convnn sweep` lists it; see convnn sweep show --help"),
        (("run", "quickstart", "--K", "4,9"), "use --K 4; a sweep takes several values: convnn sweep run --help"),
        (("run", "quickstart", "--layer", "Conv2d,Loc"), "use --layer Conv2d\n"),
        (("run", "quickstart", "--K", "4.5"), "use --K 4\n"),
    ],
)
def test_flags_that_do_not_fit_each_other_are_refused_with_the_fix(line, fix, convnn):
    code, _, err = convnn(*line)
    assert (code, fix in err) == (2, True)


def test_a_command_that_exits_keeps_its_code_and_stdout(convnn, monkeypatch):
    module = types.ModuleType("convnn.cli.leave")

    def leave() -> None:
        """Exit."""
        raise SystemExit(7)

    module.leave = leave
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(COMMANDS, "leave", Command("check", "leave"))
    stdout = os.fstat(1)
    assert convnn("leave")[0] == 7
    assert os.path.samestat(os.fstat(1), stdout)


def test_refusals_are_json_where_json_was_asked_for(convnn):
    code, out, _ = convnn("run", "--K", "0", "--json")
    document = json.loads(out)
    assert (code, document["schema"], document["error"]["code"]) == (2, "convnn/1", 2)
    problem = document["error"]["problems"][0]
    assert problem.keys() == {"file", "key", "value", "message", "fix"}
    assert (problem["key"], problem["value"]) == ("layer.K", 0)
    code, out, _ = convnn("runs", "K>>3", "--format", "json")
    assert (code, json.loads(out)["error"]["code"]) == (2, 2)


ORIGINAL_LINES = [
    "--model vgg11 --layer Conv2d --kernel_size 3 --dataset cifar10 --optimizer adamw --lr 1e-3 --num_epochs 150 "
    "--output_dir ./Output/VGG11/Conv2d",
    "--model vgg11 --layer ConvNN --K 9 --sampling_type spatial --num_samples 8 --similarity_type Col "
    "--aggregation_type Col --dataset cifar10 --optimizer adamw --lr 1e-3 --num_epochs 150 "
    "--output_dir ./Output/VGG11/ConvNN",
    "--model vgg11 --layer Branching --kernel_size 3 --K 9 --padding 1 --branch_ratio 0.5 --sampling_type all "
    "--num_samples -1 --similarity_type Col --aggregation_type Col --dataset cifar10 --optimizer adamw "
    "--weight_decay 0.01 --lr 1e-4 --scheduler cosine --num_epochs 150 --output_dir ./Output/VGG11/Branching_50",
    "--model resnet18 --layer ConvNN_Attn --K 9 --attention_dropout 0.1 --similarity_type Loc_Col "
    "--aggregation_type Loc_Col --lambda_param 0.5 --dataset cifar100 --optimizer adamw --lr 1e-3 --num_epochs 150 "
    "--use_amp --output_dir ./Output/ResNet18/ConvNN_Attn",
    "--model vgg11 --layer Branching --branch_ratio 0.5 --dataset cifar10 --optimizer adamw --lr 1e-4 "
    "--num_epochs 150 --use_amp --use_compiled --compile_mode reduce-overhead "
    "--output_dir ./Output/VGG11/Branching_Compiled",
    "--model vgg11 --layer ConvNN --test_only --device cuda",
]
ORIGINAL_PRESETS = [
    "vgg11-conv2d",
    "vgg11-convnn-spatial",
    "vgg11-branching-cosine",
    "resnet18-convnn-attn",
    "vgg11-branching-compiled",
    "vgg11-convnn-test",
]


@pytest.mark.parametrize("line", ORIGINAL_LINES)
@pytest.mark.parametrize("dashes", [False, True], ids=["underscores", "dashes"])
def test_the_commands_of_the_original_tool_are_understood(line, dashes, convnn, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = [w.replace("_", "-") if dashes and w.startswith("--") else w for w in line.split()]
    code, out, err = convnn("run", *words, "--dry-run")
    assert code == 0, err
    assert "parameters" in out
    assert not list(tmp_path.iterdir())  # nothing is written


@pytest.mark.parametrize(("line", "name"), zip(ORIGINAL_LINES, ORIGINAL_PRESETS, strict=True), ids=ORIGINAL_PRESETS)
def test_each_of_these_commands_has_its_preset(line, name):
    typed = command_line.parse(line.split()).typed
    for key in ("output.dir", "runtime.device"):  # where it is written and computed is the person's
        typed.pop(key, None)
    assert resolve.resolve(store.read(name)).config == resolve.resolve(None, typed).config


def test_an_option_without_effect_is_said_once_and_allowed(convnn):
    code, _, err = convnn("run", "--layer", "Conv2d", "--K", "4", "--dataset", "digits", "--dry-run")
    assert code == 0
    assert err.count("layer.K has no effect with layer Conv2d") == 1


def test_dry_run_shows_where_each_value_comes_from(convnn):
    _, out, _ = convnn("run", "quickstart", "--seed", "3", "--dry-run", "--json")
    document = json.loads(out)
    origins = document["origins"]
    assert (origins["training.seed"], origins["data.dataset"], origins["layer.K"]) == (
        "flag",
        "preset quickstart",
        "default",
    )
    assert document["config"]["training"]["seed"] == 3
    assert document["cost"]["parameters"] > 0


def examples(command):
    module = import_module(f"convnn.cli.{COMMANDS[command].module}")
    return [shlex.split(line) for line in module.EXAMPLES.strip().splitlines()]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_has_examples_that_its_flags_allow(command, convnn):
    out = convnn(command, "--help")[1]
    assert "Examples:" in out and "<bool>" not in out and "<str>" not in out
    assert any(words[1] == command for words in examples(command))
    for program, *words in examples(command):
        arguments = list(takewhile(lambda word: word not in (">", "&&"), words))
        assert program == "convnn"
        assert convnn(*arguments, "--help")[0] == 0, arguments


@pytest.mark.parametrize("command", [*COMMANDS, "sweep run"])
def test_sentences_of_the_help_are_broken_by_the_terminal_only(command, convnn, monkeypatch):
    monkeypatch.setenv("COLUMNS", "1000")
    prose = convnn(*command.split(), "--help")[1].partition("╭")[0].splitlines()[2:]
    assert all(line.strip()[-1] in ".?" for line in prose if line.strip() and "Usage" not in line)


def test_the_help_of_the_program_has_the_exit_codes(convnn):
    lines = [line.split() for line in convnn("--help")[1].partition("Exit codes:")[2].splitlines()]
    assert {word for line in lines for word in line if word.isdigit()} >= {str(int(code)) for code in Exit}


@pytest.mark.parametrize(
    ("typed", "known"), [("runs --colums x", "--columns"), ("rnus", "runs"), ("show --folow", "--follow")]
)
def test_a_misspelled_flag_or_command_names_the_nearest_known(typed, known, convnn):
    code, out, err = convnn(*typed.split())
    assert (code, out) == (2, "") and known in err


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_values_in_the_help_of_a_command_are_named_by_what_they_are(command, convnn):
    options = convnn(command, "--help")[1].partition("╭")[2]
    assert not re.search(r"x[<>]|<\w+>|\bWORDS\b|\bRANGE\b", options)


def test_help_names_every_flag_and_its_opposite(convnn):
    code, out, _ = convnn("run", "--help")
    assert code == 0
    missing = [option.flag for option in OPTIONS if option.flag not in out]
    assert not missing
    assert "--no_augment" in out


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_a_configuration_is_the_command_that_makes_it(option):
    from presets.test_presets import different

    config = resolve.resolve(None, {option.key: different(option)}).config
    parsed = command_line.read(command_line.command(config))
    assert not parsed.unknown
    assert resolve.resolve(None, parsed.typed).config == config


def test_a_pasted_command_is_read_over_several_lines():
    pasted = "python main.py \\\n  --model vgg11 --num-samples=8 \\\n --sampling_type spatial --bogus 3 --augment"
    parsed = command_line.read(pasted)
    assert parsed.typed == {
        "model.name": "vgg11",
        "sampling.num_samples": "8",
        "sampling.type": "spatial",
        "data.augment": "true",
    }
    assert parsed.unknown == ["--bogus 3"]
    parsed = command_line.read("convnn sweep run quickstart --K 1,4 --seeds 2 --slots 2 --detach")
    assert (parsed.preset, parsed.unknown, parsed.passed_over) == ("quickstart", [], ["--slots 2", "--detach"])
    assert parsed.typed == {"layer.K": "1,4", "training.seed": "0..1"}


def test_summary_in_json_has_the_contract_s_shape(convnn):
    code, out, _ = convnn("summary", "quickstart", "vgg11-conv2d", "--json")
    summaries = json.loads(out)["summaries"]
    assert code == 0
    assert [s["preset"] for s in summaries] == ["quickstart", "vgg11-conv2d"]
    layer = summaries[0]["layers"][0]
    assert layer.keys() == {"slot", "in", "out", "map", "candidates", "K", "parameters", "flops"}
    assert (layer["map"], layer["candidates"], layer["K"]) == ([32, 32], 34 * 34, 9)


def test_summary_takes_the_number_of_classes(convnn):
    counts = [
        json.loads(convnn("summary", "--num_classes", n, "--json")[1])["summaries"][0]["parameters"]
        for n in ("10", "11")
    ]
    assert counts[1] - counts[0] == 4097


def test_presets_are_listed_shown_checked_and_copied(convnn, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "quickstart" in convnn("presets")[1]
    assert 'type = "Branching"' in convnn("presets", "show", "quickstart")[1]
    assert convnn("presets", "copy", "quickstart", "mine")[0] == 0
    assert (tmp_path / "presets/mine.toml").is_file()
    assert convnn("presets", "copy", "quickstart", "mine")[0] == 2
    assert convnn("presets", "check")[0] == 0
    (tmp_path / "presets/mine.toml").write_text("[layer]\nK = 0\nk = 1\n")
    code, out, _ = convnn("presets", "check", "mine", "--json")
    assert code == 2
    problems = json.loads(out)["presets"][0]["problems"]
    assert {problem["key"] for problem in problems} == {"layer.K", "layer.k"}
    assert all(problem["file"].endswith("mine.toml") for problem in problems)


def test_a_preset_that_cannot_be_read_hides_no_other(convnn, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "presets"
    folder.mkdir()
    (folder / "broken.toml").write_bytes(b"\xff")
    (folder / "gone.toml").symlink_to(tmp_path / "nothing")
    code, out, _ = convnn("presets", "list")
    assert code == 0 and "broken" in out and "quickstart" in out and "gone" not in out
    code, out, _ = convnn("presets", "check", "--json")
    wrong = {preset["name"] for preset in json.loads(out)["presets"] if preset["problems"]}
    assert code == 2 and wrong == {"broken"}
    code, out, _ = convnn("presets", "check", "presets/broken.toml", "presets", "quickstart", "--json")
    checked = json.loads(out)["presets"]
    assert code == 2 and [bool(preset["problems"]) for preset in checked] == [True, True, False]


def test_a_name_that_two_presets_carry_is_said_where_it_is_used(convnn, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "it hides" not in convnn("run", "quickstart", "--dry-run")[2]
    assert convnn("presets", "copy", "quickstart", "quickstart")[0] == 0
    assert "quickstart of presets is used; it hides" in convnn("run", "quickstart", "--dry-run")[2]
    assert "it hides" not in convnn("run", "presets/quickstart.toml", "--dry-run")[2]


def test_tables_are_folded_for_terminals_only(convnn, monkeypatch):
    monkeypatch.delenv("COLUMNS")
    long = "Output/" + "x" * 100
    assert long in convnn("run", "--output_dir", long, "--dry-run")[1]


def test_a_dry_run_says_that_its_directory_is_taken(convnn, tmp_path):
    (tmp_path / "config.toml").write_text("")
    line = ("run", "--dataset", "digits", "--output_dir", str(tmp_path), "--dry-run")
    for words in (line, (*line, "--overwrite"), (*line, "--resume")):  # a file of somebody else
        code, _, err = convnn(*words)
        assert code == 0 and "not a run of convnn" in err and "exit code 2" in err
    write_marker(tmp_path)
    code, _, err = convnn(*line)
    assert code == 0 and "holds a run already" in err and "exit code 2" in err
    assert "holds a run" not in convnn(*line, "--overwrite")[2]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("convnn run quick", ["quickstart"]),
        ("convnn run --layer Br", ["Branching", "Branching_Attn"]),
        ("convnn show first", ["first-1a2b"]),
        ("convnn show 20", ["20261122-151500-first-1a2b"]),
        ("convnn run --checkpoint l", ["last"]),
        ("convnn show @", ["@last"]),
        ("convnn show --x", []),
        ("convnn resume 20", ["20261122-151500-first-1a2b"]),
        ("convnn stop 20", []),
    ],
)
def test_the_shell_completes_presets_choices_and_any_part_of_a_run(words, expected, convnn, tmp_path, monkeypatch):
    run = tmp_path / "runs" / "20261122-151500-first-1a2b"
    run.mkdir(parents=True)
    (run / "config.toml").write_text("")
    monkeypatch.setenv("COMP_WORDS", words.replace(" ", "\n"))
    monkeypatch.setenv("COMP_CWORD", str(words.count(" ")))
    monkeypatch.setenv("_CONVNN_COMPLETE", "complete_bash")
    out = convnn()[1]
    assert [word for word in out.split() if not word.startswith("@best:")] == expected


def test_a_reader_that_goes_away_is_no_error():
    line = f"set -o pipefail; {shlex.quote(sys.executable)} -m convnn summary --json | head -1"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_descriptors_are_no_error(closed):
    line = f"{shlex.quote(sys.executable)} -m convnn presets --json {closed}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_without_a_command_short_help_is_shown(convnn):
    code, out, err = convnn()
    assert all(name in out + err for name in COMMANDS)
    assert code == 0 and "error" not in err


@pytest.mark.parametrize(("alias", "name"), [*ALIASES.items(), ("runs", "runs")])
def test_an_alias_is_the_command_and_the_help_lists_it_once(alias, name, convnn):
    help = convnn(alias, "--help")[1].replace(f"convnn {alias} ", f"convnn {name} ")
    assert help.split() == convnn(name, "--help")[1].split()
    assert alias == name or f"{alias} = {name}" in convnn("--help")[1]


def test_aliases_of_flags_are_the_flags_wherever_a_configuration_is_typed(convnn):
    words = ["--dataset", "digits", "--epochs", "3", "--bs=8", "--learning-rate", "0.5", "--wd", "0.25", "--gpu", "1"]
    config = json.loads(convnn("run", *words, "--dry-run", "--json")[1])["config"]
    assert (config["training"]["num_epochs"], config["training"]["batch_size"]) == (3, 8)
    assert (config["optimizer"]["lr"], config["optimizer"]["weight_decay"]) == (0.5, 0.25)
    assert config["runtime"]["device"] == "cuda:1"
    parsed = command_line.read(shlex.join(["convnn", "run", *words]))
    assert parsed.typed["training.num_epochs"] == "3" and parsed.typed["runtime.device"] == "cuda:1"
    assert not parsed.unknown


def test_presets_are_marked_as_yours_or_as_shipped_and_say_what_they_hide(convnn, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    _, _, err = convnn("presets", "copy", "quickstart", "quickstart")
    assert "hides the quickstart that ships with convnn" in err
    lines = {line.split()[0]: line for line in convnn("presets")[1].splitlines()}
    assert "yours, hides the quickstart that ships with convnn" in lines["quickstart"]
    assert "ships with convnn" in lines["vgg11-conv2d"] and "hides" not in lines["vgg11-conv2d"]
    rows = {row["name"]: row for row in json.loads(convnn("presets", "--json")[1])["presets"]}
    assert rows["quickstart"]["origin"] == "yours" and len(rows["quickstart"]["hides"]) == 1
    assert convnn("presets", "copy", "quickstart", "mine")[2] == ""


def test_a_theme_that_there_is_not_is_refused_by_the_name_of_its_place(convnn, monkeypatch):
    monkeypatch.setattr("tui.process.descriptors.check_terminal", lambda: None)
    code, _, err = convnn("tui", "--theme", "blue")
    assert code == 2 and "--theme is 'blue'" in err and "dark or light" in err
    monkeypatch.setenv("CONVNN_THEME", "blue")
    code, _, err = convnn("tui")
    assert code == 2 and "CONVNN_THEME is 'blue'" in err


def test_a_time_limit_of_a_slurm_job_is_checked_before_it_is_submitted(convnn):
    for more in ([], ["--seeds", "2", "--yes"]):
        code, _, err = convnn("run", "quickstart", "--slurm", "--max-minutes", "soon", *more)
        assert code == 2 and "--max-minutes is 'soon'" in err


def test_one_difference_of_a_resumed_run_is_one_problem_with_the_fix(convnn, tmp_path):
    line = shlex.split("--dataset digits --limit 40 --width 0.0625 --layer Conv2d --batch_size 20 --threads 1")
    assert convnn("run", *line, "--num_epochs", "2", "--max-minutes", "0", "--plain")[0] == 75
    code, out, _ = convnn("resume", "@last", "--lr", "0.5", "--json")
    (problem,) = json.loads(out)["error"]["problems"]
    assert code == 2 and problem["key"] == "optimizer.lr" and "--fork" in problem["fix"]


def test_following_ends_at_ctrl_c_and_says_that_the_run_continues(capsys, tmp_path):
    run = new(tmp_path / "runs")
    with pytest.raises(typer.Exit) as end, leaving_the_run_alone(run):
        raise KeyboardInterrupt
    assert end.value.exit_code == Exit.INTERRUPTED
    assert "continues" in capsys.readouterr().err


def test_the_same_seed_may_be_written_with_either_spelling(convnn):
    documents = [
        json.loads(convnn("run", flag, "8", "--sampling-type", "spatial", "--dry-run", "--json")[1])
        for flag in ("--num_samples", "--num-samples")
    ]
    assert documents[0] == documents[1]


def test_runs_that_failed_before_their_first_step_are_listed_on_request_and_never_resumed(convnn, tmp_path):
    interrupted = new(tmp_path / "runs", Started(), Step(epoch=1, step=1, loss=1.0), Finished(outcome="interrupted"))
    failed = new(tmp_path / "runs", Started(), Finished(outcome="failed"))
    late = new(tmp_path / "runs", Started(), Step(epoch=1, step=1, loss=1.0), Finished(outcome="failed"))
    for _ in range(2):  # the second time from the cache
        _, out, err = convnn("runs")
        assert interrupted.name in out and late.name in out and failed.name not in out and "--all" in err
    assert failed.name[-4:] in convnn("runs", "--all")[1] and failed.name[-4:] in convnn("runs", "status=failed")[1]
    late.path.rename(tmp_path / "late")
    assert resumable_run(None, tmp_path / "runs").name == interrupted.name
