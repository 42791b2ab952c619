"""The commands that list, compare, lay out, import, export and remove runs, called in this process."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys

import pytest
from support import old_results as oldfiles
from support.predictions import random_predictions
from support.runs import epoch, new

from convnn import predictions
from convnn.analysis.statistics import holm
from convnn.events import Epoch, Finished, Started
from convnn.runs.event_log import append_event, event_line
from convnn.runs.lock import LOCK_FILE, lock_run
from convnn.runs.summary_cache import CACHE


@pytest.fixture
def root(tmp_path):
    return tmp_path / "runs"


@pytest.fixture
def convnn(in_process, root, monkeypatch):
    """Run a command with its runs in a fresh folder: (exit code, stdout, stderr)."""
    monkeypatch.setenv("CONVNN_RUNS", str(root))
    monkeypatch.delenv("COLUMNS", raising=False)

    return in_process


@pytest.fixture
def old(tmp_path, convnn):
    """Six imported runs: three ratios, two kinds of similarity."""
    for ratio, figures in {0.0: (80.8, 81.45), 0.5: (82.79, 82.39), 1.0: (55.31, 58.11)}.items():
        for kind, top1 in zip(("Col", "Loc_Col"), figures, strict=True):
            text = oldfiles.results(40.0, top1, top1 - 1)
            name = f"Branching_{kind}_br{ratio * 1000:04.0f}_s42"
            made = oldfiles.directory(tmp_path / "old" / name, text, branch_ratio=ratio, similarity_type=kind)
            os.utime(made / "train_eval_results.txt", (1.7e9, 1.7e9))
    assert convnn("import", str(tmp_path / "old"))[0] == 0
    return tmp_path / "old"


TABLE = ["table", "--rows", "branching.ratio", "--cols", "layer.similarity_type,layer.aggregation_type"]
TABLE += ["--cell", "best:test_top1", "--where", "dataset=cifar10 magnitude_type=cosine lr=1e-4"]


def test_importing_says_what_it_did_and_what_it_passed_over(convnn, tmp_path):
    oldfiles.directory(tmp_path / "old" / "good")
    oldfiles.directory(tmp_path / "old" / "bad", oldfiles.epoch(1, 40.0) + "Traceback\n", K=0)
    code, out, err = convnn("import", str(tmp_path / "old"))
    assert (code, out) == (0, "2 runs imported, 0 updated, 0 known already\n")
    assert convnn("import", str(tmp_path / "old" / "bad" / "args.txt"))[0] == 2
    assert f"{tmp_path}/old/bad/train_eval_results.txt:2: not understood: Traceback" in err
    assert "not launchable: layer.K is 0" in err
    code, out, err = convnn("import", str(tmp_path / "old"), "--json")
    assert {row["outcome"] for row in json.loads(out)["imported"]} == {"known"}
    assert convnn("import", str(tmp_path / "nowhere"))[0] == 6


def test_a_directory_of_garbage_does_not_hide_what_is_said_of_others(convnn, tmp_path):
    oldfiles.directory(tmp_path / "old" / "a", "garbage\n" * 50)
    oldfiles.directory(tmp_path / "old" / "b", K=0)
    err = convnn("import", str(tmp_path / "old"))[2]
    assert "skipped 45 more lines" in err and "not launchable: layer.K is 0" in err


def test_a_file_is_not_imported(convnn, tmp_path):
    (tmp_path / "x.csv").write_text("n,acc\n1,50\n")
    assert convnn("import", str(tmp_path / "x.csv"))[0] == 2


def test_the_factorial_table_in_every_format(convnn, old):
    code, out, err = convnn(*TABLE)
    assert code == 0 and [line.split() for line in out.splitlines()] == [
        ["branching.ratio", "Col/Col", "Loc_Col/Col"],
        ["0", "80.80", "81.45"],
        ["0.5", "82.79", "82.39"],
        ["1", "55.31", "58.11"],
    ]
    assert "as published" in err and "best on test" in err
    assert list(csv.reader(io.StringIO(convnn(*TABLE, "--format", "csv")[1])))[1] == ["0", "80.80", "81.45"]
    assert "| 0.5 | 82.79 | 82.39 |" in convnn(*TABLE, "--format", "md")[1]
    assert r"1 & 55.31 & 58.11 \\" in convnn(*TABLE, "--format", "latex")[1]
    document = json.loads(convnn(*TABLE, "--json")[1])
    assert document["schema"] == "convnn/1" and document["cells"][2][1] == {"n": 1, "mean": 58.11, "sd": None}
    assert convnn(*TABLE, "--format", "tabel")[0] == 2


def test_a_mixed_cell_is_refused(convnn, old):
    code, out, err = convnn("table", "--rows", "branching.ratio", "--cell", "best")
    assert (code, out) == (2, "") and "add layer.similarity_type to --rows or --cols" in err


def test_runs_are_filtered_sorted_and_shown_with_what_differs(convnn, old):
    code, out, err = convnn("runs", "branch_ratio>=0.5", "--sort", "-best")
    lines = [line.split() for line in out.splitlines()]
    assert code == 0 and lines[0] == ["name", "status", "epoch", "best", "similarity_type", "branch_ratio"]
    assert [line[-3] for line in lines[1:]] == ["82.79", "82.39", "58.11", "55.31"] and "as published" in err
    code, out, _ = convnn(
        "runs", "--columns", "branch_ratio,best:test_top1", "--format", "csv", "--sort", "branch_ratio,best"
    )
    assert out.splitlines()[:3] == ["branch_ratio,best:test_top1", "0,80.80", "0,81.45"]
    out = convnn("runs", "--columns", "name,status", "--format", "latex")[1]
    assert "& done" in out and out.isascii()  # a glyph is for people
    code, out, err = convnn("runs", "layr=x")
    assert (code, out) == (2, "") and "Did you mean layer?" in err


def test_runs_as_json_has_the_fields_of_the_contract(convnn, old):
    document = json.loads(convnn("runs", "best<60", "--json")[1])
    assert document["schema"] == "convnn/1" and len(document["runs"]) == 2
    fields = {"name", "path", "status", "started", "finished", "config", "epoch", "best", "digest"}
    fields |= {"tags", "notes", "host"}
    assert document["runs"][0].keys() == fields and document["runs"][0]["config"]["branching"]["ratio"] == 1.0


def test_repeats_are_one_row(convnn, old):
    code, out, _ = convnn("runs", "branch_ratio=0", "--group", "repeats")
    assert code == 0 and out.splitlines()[1].split() == ["2", "81.12", "0.46", "81.45", "77.00", "to", "85.25"]
    assert json.loads(convnn("runs", "--group", "branch_ratio", "--json")[1])["groups"][0]["n"] == 2
    document = json.loads(convnn("runs", "--group", "repeats", "--json")[1])
    assert {"similarity_type": None, "branch_ratio": 0.0} in [group["values"] for group in document["groups"]]


def test_nothing_to_show_is_said(convnn):
    assert convnn("runs") == (0, "", convnn("runs")[2]) and "convnn run starts one" in convnn("runs")[2]
    assert json.loads(convnn("runs", "--json")[1])["runs"] == []


def test_compare_shows_differences_figures_and_what_they_are_worth(convnn, old):
    code, out, err = convnn("compare", "g_Col_br0500", "g_Col_br1000", "--pin", "g_Loc_Col_br0500")
    assert code == 0 and "layer.similarity_type" in out and "optimizer.lr" not in out and "test_top1 by epoch" in out
    assert (
        "(-27.08)" in out
        and "distinguishable" in out
        and "Holm-adjusted" in out
        and err.count("run-to-run standard deviation: ") == 1
    )
    assert "p is adjusted for 2 comparisons, an interval is that of its pair alone" in err
    document = json.loads(convnn("compare", "--where", "branch_ratio<1", "--json")[1])
    assert (
        document.keys() == {"schema", "runs", "code", "code_differs", "differences", "figures", "groups", "predictions"}
        and len(document["runs"]) == 4
    )
    assert convnn("compare", "--where", "branch_ratio=0.5", "--format", "md")[1].count("|---") > 3
    assert convnn("compare", "g_Col_br0500")[0] == 2 and convnn("compare", "nothing", "@last")[0] == 6


def test_unfinished_runs_are_left_out_of_verdicts_and_counted(convnn, root):
    """A run stopped after its first epoch is not averaged with others; asked for, it is, and nothing is claimed."""
    for name, top1s, outcome in (
        ("whole", (50.0, 60.0, 70.0), "done"),
        ("cut", (10.0,), "stopped"),
        ("late", (20.0, 30.0), "interrupted"),
    ):
        epochs = [epoch(number, top1) for number, top1 in enumerate(top1s, 1)]
        new(root, Started(), *epochs, Finished(outcome=outcome), name=name)
    names = ("whole", "cut", "late")
    code, out, err = convnn("compare", *names, "--no_curves")
    assert code == 0 and "2 unfinished runs, B (stopped at epoch 1), C (interrupted at epoch 2)" in out
    assert "distinguishable" not in out + err and "repeats  n" not in out
    groups = json.loads(convnn("compare", *names, "--json")[1])["groups"]
    assert [(group["n"], group["mean"], len(group["unfinished"])) for group in groups] == [(1, 70.0, 2)]
    group = json.loads(convnn("compare", *names, "--json", "--unfinished")[1])["groups"][0]
    assert group["n"] == 3 and group["mean"] == pytest.approx(110 / 3)
    assert group["low"] is None and group["unfinished"] == []
    assert "averaged, but not tested: 2 unfinished runs" in convnn("compare", *names, "--unfinished")[1]


def test_caveats_stand_before_the_verdicts(convnn, old):
    out = convnn("compare", "g_Col_br0500", "g_Col_br1000", "--no_curves")[1]
    places = [out.index(words) for words in ("parameters", "data not verified", "best on test: ", "B - A: ")]
    assert places == sorted(places) and out.splitlines()[-1].startswith("B - A: ")
    err = convnn("compare", "g_Col_br0500", "g_Col_br1000", "--format", "csv")[2]
    assert err.index("data not verified") < err.index("B - A: ")


def test_show_says_where_an_imported_run_came_from_and_its_figures_as_published(convnn, old):
    out = " ".join(convnn("show", "g_Col_br0500")[1].split())
    assert "imported from" in out and "old/Branching_Col_br0500_s42" in out.replace(" ", "")
    assert "as published: 0.33130096 GFLOPs, 16.0 s/epoch, best 82.79 % at epoch 2" in out
    assert "why:" not in out


def test_the_curves_of_a_run_are_exported(convnn, old):
    out = convnn("export", "g_Col_br0500", "--csv")[1]
    assert [row["test_top1"] for row in csv.DictReader(io.StringIO(out))] == ["40.0", "82.79", "81.79"]
    assert convnn("export", "g_Col_br0500")[0] == 2


def test_a_damaged_run_costs_one_line_and_the_cache_nothing(convnn, old, root):
    first = convnn("runs")[1]
    victim = next(path for path in root.iterdir() if "g_Col_br0500" in path.name)
    (victim / "config.toml").write_bytes(b"\xff[[")
    code, out, err = convnn("runs")
    assert code == 0 and len(out.splitlines()) == 6
    assert [victim.name in line for line in err.splitlines() if line.startswith("warning")] == [True]
    (root / CACHE).unlink()
    assert convnn("runs")[1] == out != first
    damaged = next(path for path in root.iterdir() if "g_Col_br1000" in path.name)
    text = (damaged / "events.jsonl").read_text()
    (damaged / "events.jsonl").write_text(text.replace('{"event": "Epoch"', "{", 1))
    for _ in range(2):  # read, and from the cache
        code, out, err = convnn("runs")
        assert (
            len(out.splitlines()) == 6
            and err.count("warning") == 2
            and f"{damaged.name}/events.jsonl: 1 damaged line" in err
        )


def test_removing_goes_to_the_trash_and_comes_back(convnn, old, root):
    before = convnn("runs")[1]
    code, out, err = convnn("rm", "--where", "best<60", "--older", "30d", "--dry-run")
    assert code == 0 and "g_Col_br1000" in out and "2 runs would be removed" in err and convnn("runs")[1] == before
    assert "0 runs removed" in convnn("rm", "--where", "best<60", "--older", "900w")[2]
    assert "convnn rm --undo --count 2" in convnn("rm", "--where", "best<60")[2]
    assert len(convnn("runs")[1].splitlines()) == 5
    assert convnn("rm", "--undo", "--count", "2")[0] == 0 and convnn("runs")[1] == before
    assert convnn("rm", "g_Col_br1000")[0] == 0 and "1 run deleted for good" in convnn("rm", "--empty")[2]
    assert convnn("rm", "--undo")[0] == 6 and len(convnn("runs")[1].splitlines()) == 6


def test_a_run_that_trains_is_never_removed(convnn, root):
    run = new(root, Started(), epoch(1, 50.0))
    with lock_run(run.path):
        code, _, err = convnn("rm", run.name)
        assert code == 7 and re.search(r" since \d{4}-\d\d-\d\d \d\d:\d\d\n", err)  # local time
        err = convnn("rm", run.name, "--dry-run")[2]
        assert "1 live run left alone" in err and "0 runs would be removed" in err
        code, _, err = convnn("rm", "--where", "best=50")
        assert code == 0 and "1 live run left alone" in err and "0 runs removed" in err
    assert run.path.is_dir()


@pytest.mark.parametrize(
    "argv", [[], ["a", "--undo"], ["--undo", "--empty"], ["--where", "K=9", "a"], ["--older", "x"]]
)
def test_rm_does_one_thing_that_was_said(convnn, argv):
    assert convnn("rm", *argv)[0] == 2


def statuses(convnn):
    return {row["name"]: row["status"] for row in json.loads(convnn("runs", "--json")[1])["runs"]}


HOLDER = """
import sys, time
from pathlib import Path
from convnn.runs.lock import lock_run
with lock_run(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_status_is_true_of_a_killed_a_copied_and_a_live_run(convnn, root):
    run = new(root, Started(), epoch(1, 50.0))
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(run.path)], stdout=subprocess.PIPE)
    try:
        assert holder.stdout.readline() == b"held\n"
        shutil.copytree(run.path, root / "copy")  # with the lock file, which names a living process
        assert statuses(convnn) == {run.name: "running", "copy": "died"}
        os.kill(holder.pid, signal.SIGKILL)
    finally:
        holder.kill()
        holder.wait()
    assert statuses(convnn) == {run.name: "died", "copy": "died"}


def test_status_is_true_of_a_run_whose_process_number_was_given_to_another(convnn, root):
    run = new(root, Started(), epoch(1, 50.0))
    (run.path / LOCK_FILE).write_text(json.dumps({"pid": os.getpid(), "host": "here", "started": "now"}))
    assert statuses(convnn) == {run.name: "died"}
    append_event(run.events_path, Finished(outcome="failed", cause="x"))
    assert statuses(convnn) == {run.name: "failed"}


def test_runs_show_without_reading_them_again(convnn, root, monkeypatch):
    run = new(root, Started(), epoch(1, 50.0), Finished(outcome="done"))
    for index in range(50):
        shutil.copytree(run.path, root / f"copy{index}")
    first = convnn("runs")[1]
    monkeypatch.setattr("convnn.runs.summary_cache.summarize", lambda run: pytest.fail("read again"))
    assert convnn("runs")[1] == first


def test_a_reader_that_goes_away_is_no_error(convnn, root):
    run = new(root)
    epochs = [Epoch(epoch=number, step=number, metrics={"test_top1": number / 100}) for number in range(1, 5000)]
    run.events_path.write_text("".join(f"{event_line(event)}\n" for event in epochs))
    pipeline = f"set -o pipefail; {sys.executable} -m convnn export @last --csv | head -1"
    done = subprocess.run(["bash", "-c", pipeline], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "epoch,step,time,test_top1\n", "")


def test_runs_that_keep_predictions_are_compared_image_by_image(convnn, root):
    from scipy.stats import binomtest

    runs = []
    for seed in range(3):
        started = Started(classes=tuple("abcd"), num_classes=4)
        runs.append(new(root, started, epoch(1, 50.0 + seed), Finished(outcome="done"), name=f"seed{seed}"))
    line = ("compare", "--no_curves", *(f"{run.path}/" for run in runs))
    assert "image by image" not in "".join(convnn(*line)[1:])
    first, second = (random_predictions(300, 4, seed=seed, epoch=seed + 1) for seed in range(2))
    predictions.write(runs[0].path, first)
    predictions.write(runs[1].path, second)
    code, out, err = convnn(*line)
    assert code == 0 and "another seed" in err
    difference = 100 * (second.is_correct.mean() - first.is_correct.mean())
    assert f"B - A, image by image: {difference:+.2f} points on 300 test images" in out
    assert "C - A, image by image: not compared: C has no predictions.safetensors" in out
    document = json.loads(convnn(*line, "--json")[1])["predictions"]
    alone = (first.is_correct & ~second.is_correct).sum(), (second.is_correct & ~first.is_correct).sum()
    assert document[0]["total"]["p"] == pytest.approx(binomtest(int(alone[0]), int(sum(alone))).pvalue)
    assert [row["class"] for row in document[0]["classes"]] == list("abcd")
    assert sum(row["second_alone"] for row in document[0]["classes"]) == alone[1]
    assert document[1]["total"] is None
    predictions.write(runs[2].path, random_predictions(300, 4, seed=2))
    totals = [pair["total"] for pair in json.loads(convnn(*line, "--json")[1])["predictions"]]
    assert [total["adjusted_p"] for total in totals] == pytest.approx(holm([total["p"] for total in totals]))
    assert convnn(*line)[1].count("McNemar's exact test, Holm-adjusted") == 2
    (runs[2].path / predictions.NAME).write_bytes(b"damaged\x1b[2J")
    assert "cannot be read" in json.loads(convnn(*line, "--json")[1])["predictions"][1]["reason"]
