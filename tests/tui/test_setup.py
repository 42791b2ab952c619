"""The form: made from the schema, checked at every key, with the way out of each problem under a key."""

from __future__ import annotations

from contextlib import asynccontextmanager

import pytest
from PIL import Image
from support import bad_options as bad_inputs
from support import file_access
from support.app import app, form, put, text, until
from textual import events
from textual.command import CommandPalette
from textual.widgets import Input

from convnn.config.command_line import read
from convnn.config.options import BY_KEY, BY_NAME, OPTIONS
from convnn.config.toml import parse_run
from convnn.errors import UserError
from convnn.presets import store
from convnn.runs.find import list_runs
from convnn.sweeps.file import read_sweep
from convnn.sweeps.plan import plan_sweep
from convnn.sweeps.queue import with_absolute_data_path
from convnn.sweeps.work import live_workers
from convnn.text import prefixed
from tui.dialogs.choice import Choice
from tui.dialogs.prompt import Prompt
from tui.screens.setup.command_box import CommandBox
from tui.screens.setup.controls import ChoiceControl, CommandPasted, NumberControl, SwitchControl, TextControl
from tui.screens.setup.cost_panel import CostPanel
from tui.screens.setup.draft import Draft
from tui.screens.setup.epoch_time import EpochTime
from tui.screens.setup.form import Form
from tui.screens.setup.paste_errors import PasteErrors
from tui.screens.setup.save_preset import SavePreset
from tui.screens.setup.screen import SetupScreen

pytestmark = pytest.mark.usefixtures("frames_are_drawn_for_the_pilot")

PRESET = 'about = "a small look"\n\n[model]\nwidth = 0.125\n\n[layer]\nK = 5\n\n[data]\ndataset = "digits"\n'

TINY = """
[model]
width = 0.05
[layer]
type = "Conv2d"
[data]
dataset = "digits"
limit = 40
[training]
num_epochs = 1
batch_size = 20
"""


@pytest.fixture(autouse=True)
def desk(tmp_path, monkeypatch):
    """An empty working directory with one preset of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "presets").mkdir()
    (tmp_path / "presets" / "small.toml").write_text(PRESET)
    return tmp_path


@asynccontextmanager
async def opened(tmp_path, preset: str | None = "small", size=(120, 40)):
    """(pilot, screen) of the form with a preset."""
    convnn_app = app(tmp_path / "runs", preset=preset)
    async with convnn_app.run_test(size=size) as pilot:
        yield pilot, await form(pilot, *([] if preset is None else ["ctrl+end"]))


def field(screen: SetupScreen, key: str):
    return screen.query_one(Form).fields[key]


def messages(app) -> str:
    return "\n".join(note.message for note in app._notifications)


# -- fields -----------------------------------------------------------


async def test_every_option_has_a_field_with_the_control_that_suits_it(tmp_path):
    async with opened(tmp_path) as (_, screen):
        fields = screen.query_one(Form).fields
        assert list(fields) == [option.key for option in OPTIONS if option.key != "output.test_only"]
        kinds = {
            "bool": SwitchControl,
            "choice": ChoiceControl,
            "int": NumberControl,
            "float": NumberControl,
            "text": TextControl,
            "words": TextControl,
        }
        for option in (fields[key].option for key in fields):
            assert type(fields[option.key].control) is kinds[option.kind]
            assert screen.draft.text(option) == option.text(store.read("small").values.get(option.key, option.default))


async def test_the_focused_field_shows_its_help_and_others_their_default(tmp_path):
    async with opened(tmp_path) as (pilot, screen):
        screen.query_one(Form).go_to("layer.K")
        await until(pilot, lambda: BY_KEY["layer.K"].help[:30] in text(pilot.app))
        assert field(screen, "layer.padding").note == "pixels · default 1"
        await pilot.press("f1")
        await until(pilot, lambda: "A whole number" in text(pilot.app) or "a whole number" in text(pilot.app))
        await until(pilot, lambda: "a larger number" in text(pilot.app))


@pytest.mark.parametrize("size", [(60, 15), (120, 40)])
async def test_no_field_moves_when_another_one_gets_the_focus(tmp_path, size):
    async with opened(tmp_path, size=size) as (pilot, screen):
        rows = {key: field.virtual_region.y for key, field in screen.query_one(Form).fields.items()}
        for key in ("layer.type", "data.path", "sampling.num_samples"):  # the last has no effect
            screen.query_one(Form).go_to(key)
            about = field(screen, key).about().plain[:20]
            await until(pilot, lambda about=about: about in text(pilot.app))
            assert {key: field.virtual_region.y for key, field in screen.query_one(Form).fields.items()} == rows


async def test_the_command_stays_selected_when_it_is_written_anew(tmp_path):
    async with opened(tmp_path) as (pilot, screen):
        await pilot.press("f2")
        box = screen.query_one(CommandBox)
        box.show(box.command)
        box.show("convnn run --K 3")
        await pilot.press("x")
        assert box.text == "x"


async def test_what_is_typed_right_after_tab_goes_to_the_next_field(tmp_path):
    async with opened(tmp_path) as (pilot, screen):
        screen.query_one(Form).go_to("layer.padding")
        await until(pilot, lambda: pilot.app.focused is field(screen, "layer.padding").control)
        for key, character in (("tab", None), ("7", "7")):  # in one read of a terminal, not one after the other
            pilot.app.post_message(events.Key(key, character))
        await until(pilot, lambda: screen.draft.typed == {"layer.K": "7"})


async def test_up_and_down_move_between_fields_and_change_nothing(tmp_path, monkeypatch):
    async with opened(tmp_path) as (pilot, screen):
        form_widget = screen.query_one(Form)
        names = list(form_widget.fields)
        form_widget.go_to(names[5])
        stylesheet, styled = pilot.app.stylesheet, []
        with monkeypatch.context() as patch:
            patch.setattr(
                stylesheet,
                "apply",
                lambda node, apply=stylesheet.apply, **options: (styled.append(node), apply(node, **options)),
            )
            await pilot.press("down")
        assert 0 < len(set(styled) & set(screen.walk_children())) < 10  # a key styles a few widgets, not all fields
        ends = (
            (names[0], ["up", *["down"] * 6], [0, *range(1, 7)]),  # over the first two titles
            (names[-3], ["down", "down", "down", "up"], [-2, -1, -1, -2]),
        )
        for start, presses, places in ends:
            form_widget.go_to(start)
            for press, place in zip(presses, places, strict=True):
                await pilot.press(press)
                assert form_widget.focused_field.option.key == names[place]
        assert not screen.draft.typed


async def test_left_and_right_change_choices_and_switches_and_ctrl_up_and_down_numbers(tmp_path):
    async with opened(tmp_path) as (pilot, screen):
        for key, press, word in [
            ("layer.K", "ctrl+up", "6"), ("model.width", "ctrl+down", "none"), ("optimizer.lr", "shift+up", "0.002"),
            ("layer.type", "right", "ConvNN_Attn"), ("data.augment", "space", "true"), ("runtime.amp", "right", "true"),
            ("model.name", "left", "resnet34"), ("layer.magnitude_type", "ctrl+down", "euclidean"),
            ("runtime.compile", "enter", "true"),
        ]:  # fmt: skip
            screen.query_one(Form).go_to(key)
            await pilot.press(press)
            if key != "model.width":
                assert screen.draft.typed[key] == word, key
            else:  # the step below 0.125 would be 0, which is not allowed
                assert key not in screen.draft.typed


async def test_the_list_of_choices_opens_on_the_present_one_and_enter_changes_nothing(tmp_path):
    async with opened(tmp_path) as (pilot, screen):
        await put(pilot, screen, "layer.type", "Branching_Attn")
        before = dict(screen.draft.typed)
        for key in ("enter", "space"):
            await pilot.press(key)
            await until(pilot, lambda: isinstance(pilot.app.screen, Choice))
            assert "● Branching_Attn" in text(pilot.app) and text(pilot.app).count("●") == 1
            await pilot.press("enter")
            await until(pilot, lambda: pilot.app.screen is screen)
            assert screen.draft.typed == before


async def test_a_letter_goes_to_the_next_choice_that_begins_with_it(tmp_path):
    async with opened(tmp_path) as (pilot, screen):
        screen.query_one(Form).go_to("layer.type")
        await pilot.press("b")  # opens the list there
        await until(pilot, lambda: isinstance(pilot.app.screen, Choice))
        assert not screen.draft.typed
        await pilot.press("b", "b", "C", "enter")
        await until(pilot, lambda: pilot.app.screen is screen)
        choices = [choice.lower() for choice in BY_KEY["layer.type"].choices]
        assert screen.draft.text(BY_KEY["layer.type"]).lower().startswith("c")
        assert any(choice.startswith("b") for choice in choices)


async def test_a_field_is_found_by_its_name(tmp_path):
    async with opened(tmp_path, size=(80, 24)) as (pilot, screen):
        for start, keys, key in [
            ("layer.K", ("slash", *"lr", "enter"), "optimizer.lr"),
            ("run.name", ("ctrl+g", *"seed", "enter"), "training.seed"),
            ("model.name", ("ctrl+p", *"clip_grad", "enter"), "training.clip_grad_norm"),
        ]:
            screen.query_one(Form).go_to(start)
            await pilot.press(*keys[:1])
            await until(pilot, lambda: isinstance(pilot.app.screen, CommandPalette))
            await pilot.press(*keys[1:-1])
            await until(pilot, lambda key=key: key in text(pilot.app))
            await pilot.press("enter")
            await until(pilot, lambda: pilot.app.screen is screen)
            await until(pilot, lambda key=key: screen.query_one(Form).focused_field.option.key == key)
        screen.query_one(Form).go_to("data.path")
        await pilot.press("slash", "x")
        await until(pilot, lambda: screen.draft.typed == {"data.path": "/x"})


async def test_the_title_of_a_section_comes_to_the_top_with_its_first_field(tmp_path):
    async with opened(tmp_path, size=(80, 24)) as (pilot, screen):
        for section in ("layer", "sampling", "branching", "data"):
            await pilot.press("pagedown")
            await until(pilot, lambda section=section: text(pilot.app).splitlines()[2].split()[1] == section)
            assert screen.query_one(Form).focused_field.option.section == section


async def test_a_problem_stands_under_its_field_and_f4_applies_the_fix(tmp_path):
    async with opened(tmp_path) as (pilot, screen):
        await put(pilot, screen, "layer.K", "40")
        lines = text(pilot.app).splitlines()
        row = next(i for i, line in enumerate(lines) if "40" in line and " K " in line)
        assert screen.checked.problems[0].message[:50] in "".join(lines[row + 1 : row + 3])
        assert "1 problem" in lines[0]
        await pilot.press("f4")
        await until(pilot, lambda: not screen.checked.problems)
        assert screen.checked.config.layer.K == 16 and "ready" in text(pilot.app).splitlines()[0]


async def test_f8_goes_from_problem_to_problem_and_back(tmp_path):
    async with opened(tmp_path) as (pilot, screen):
        await put(pilot, screen, "optimizer.lr", "fast")
        await put(pilot, screen, "layer.padding", "-1")
        await put(pilot, screen, "training.seed", "-7")
        assert "3 problems" in text(pilot.app).splitlines()[0]
        keys = []
        screen.query_one(Form).go_to("model.name")
        for key in ("f8", "f8", "f8", "f8", "shift+f8"):
            await pilot.press(key)
            keys.append(screen.query_one(Form).focused_field.option.key)
        assert keys == ["layer.padding", "training.seed", "optimizer.lr", "layer.padding", "optimizer.lr"]


async def test_what_has_no_effect_is_greyed_with_the_reason(tmp_path):
    async with opened(tmp_path) as (pilot, screen):
        row = field(screen, "layer.kernel_size")
        assert row.state.inactive and row.note == "no effect with layer ConvNN"
        samples = field(screen, "sampling.num_samples")
        assert samples.note == "only with random or spatial"
        assert samples.about().plain.startswith(
            "num_samples  no effect with sampling_type all (it needs random or spatial)"
        )
        await put(pilot, screen, "layer.type", "Branching")
        assert not row.state.inactive


async def test_a_change_is_marked_and_ctrl_r_takes_it_back_and_then_goes_to_the_default(tmp_path):
    async with opened(tmp_path) as (pilot, screen):
        await put(pilot, screen, "layer.K", "7")
        row = field(screen, "layer.K")
        assert row.state.is_changed and screen.command == "convnn run small --K 7"
        await pilot.press("ctrl+r")
        await until(pilot, lambda: row.control.value == "5" and not row.state.is_changed)
        await pilot.press("ctrl+r")
        await until(pilot, lambda: row.control.value == "9" and row.state.is_changed)


async def test_a_key_in_the_form_opens_no_file_of_the_data_set(tmp_path):
    folder = tmp_path / "images"
    for split in ("train", "test"):
        for label in ("cats", "dogs"):
            (folder / split / label).mkdir(parents=True)
            Image.new("RGB", (32, 32)).save(folder / split / label / "0.png")
    async with opened(tmp_path, None) as (pilot, screen):
        await put(pilot, screen, "data.dataset", "folder")
        await put(pilot, screen, "data.path", str(folder))
        assert not screen.checked.problems and screen.checked.plan is not None
        with file_access.opened(folder) as paths:
            await put(pilot, screen, "layer.K", "7")
            await put(pilot, screen, "layer.K", "1000000")
            assert screen.checked.problems_of("layer.K")
        assert paths == []


# -- refused and accepted -----------------------------------------------------------


REFUSED = [*bad_inputs.FIELDS, *bad_inputs.RULES]


async def test_nothing_that_the_command_line_refuses_can_be_launched(tmp_path):
    async with opened(tmp_path, None) as (pilot, screen):
        rows = [row for row in REFUSED if screen.query_one(Form).fields.keys() >= row.values.keys()]
        for row in rows:
            draft = Draft()
            for key, word in row.words_typed.items():
                draft.type(key, word)
            checked = draft.check()
            problems = checked.problems_of(row.key)
            assert problems and all(word in problems[0].message for word in row.words), f"{row}: {checked.problems}"
        for row in rows[::10]:
            screen.draft = Draft()
            screen.refill()
            for key, word in row.words_typed.items():
                control = field(screen, key).control
                control.show(word)
                screen.draft.type(key, word)
            await screen.action_launch()
            assert field(screen, row.key).state.problems == screen.checked.problems_of(row.key) != []
            assert not pilot.app.launcher.launches and pilot.app.screen is screen


@pytest.mark.parametrize("row", bad_inputs.PRESETS, ids=str)
def test_a_preset_that_the_command_line_refuses_is_refused_by_the_form(row):
    try:
        problems = Draft(store.parse(row["toml"])).check().problems
    except UserError as error:
        problems = error.problems
    assert any(all(word in str(problem) for word in row["words"]) for problem in problems)


@pytest.mark.parametrize("path", sorted(store.folders()[-1].glob("*.toml")), ids=lambda path: path.stem)
def test_every_preset_that_came_with_the_program_is_accepted(path):
    draft = Draft(store.read(str(path)))
    assert [str(p) for p in draft.check().problems if p.key != "runtime.device"] == []


ACCEPTED = [
    "--model vgg11 --layer ConvNN --K 9 --sampling_type spatial --num_samples 8 --similarity_type Col --lr 1e-3",
    "--model vgg11 --layer Branching --branch_ratio 0.5 --sampling_type all --num_samples -1 --scheduler cosine",
    "--model resnet18 --layer ConvNN_Attn --similarity_type Loc_Col --dataset cifar100 --use_amp",
    "--layer Branching --use_amp --use_compiled --compile_mode reduce-overhead --output_dir ./Output/Compiled",
]


@pytest.mark.parametrize("flags", ACCEPTED)
def test_what_the_command_line_accepts_is_accepted_and_comes_out_as_the_same_command(flags):
    draft = Draft.from_command(read(f"python main.py {flags}"))
    checked = draft.check()
    assert not checked.problems
    again = Draft.from_command(read(draft.command(checked)))
    assert again.check().config == checked.config


# -- the command -----------------------------------------------------------

ORIGINAL = """python main.py --model vgg11 \\
    --layer Branching --kernel_size 3 --K 9 --padding 1 \\
    --branch_ratio 0.25 --dataset digits --lr 1e-4 --num-epochs 3
"""


async def test_a_command_pasted_over_several_lines_fills_the_form(tmp_path):
    from textual.events import Paste

    async with opened(tmp_path) as (pilot, screen):
        await pilot.press("f2")
        assert isinstance(pilot.app.focused, CommandBox)
        pilot.app.focused.post_message(Paste(ORIGINAL.replace("\n", "\r")))  # as terminals send it
        await until(pilot, lambda: screen.draft.preset is None)
        config = screen.checked.config
        assert (config.layer.type, config.branching.ratio, config.optimizer.lr, config.training.num_epochs) == (
            "Branching",
            0.25,
            1e-4,
            3,
        )
        assert field(screen, "branching.ratio").control.value == "0.25"
        for key, K in (("layer.K", 4), ("layer.type", 6)):  # a text, and a control that takes none
            field(screen, key).control.post_message(Paste(f"convnn run small --K {K}"))
            await until(pilot, lambda K=K: screen.checked.config.layer.K == K)
            assert screen.draft.preset.name == "small" and screen.checked.config.model.width == 0.125


async def test_of_a_command_that_is_not_understood_nothing_is_applied(tmp_path):
    async with opened(tmp_path) as (pilot, screen):
        await put(pilot, screen, "layer.K", "7")
        await pilot.press("f2", "ctrl+shift+a")
        for key in (
            "convnn run --model vgg13 --layr ConvNN --colour red --test_only",
            "convnn run 'open",
            "convnn run nosuch",
        ):
            pilot.app.screen.query_one(CommandBox).text = key
            await pilot.press("enter")
            await until(pilot, lambda: isinstance(pilot.app.screen, PasteErrors))
            dialog = text(pilot.app)
            await pilot.press("escape")
            await until(pilot, lambda: pilot.app.screen is screen)
            assert screen.draft.typed == {"layer.K": "7"} and screen.draft.preset.name == "small"
            if "colour" in key:
                assert "--layr ConvNN. Did you mean --layer?" in dialog
                assert "--colour red" in dialog and "convnn run --test_only" in dialog


async def test_the_command_is_copied_whole(tmp_path):
    async with opened(tmp_path) as (pilot, screen):
        await put(pilot, screen, "run.tags", "a,b")
        await pilot.press("ctrl+y")
        assert pilot.app.clipboard == "convnn run small --tag a --tag b" == pilot.app.screen.query_one(CommandBox).text


# -- saving -----------------------------------------------------------


async def test_a_preset_is_saved_with_what_differs_from_the_defaults(tmp_path):
    async with opened(tmp_path, None) as (pilot, screen):
        await put(pilot, screen, "layer.K", "7")
        await pilot.press("ctrl+s")
        await until(pilot, lambda: isinstance(pilot.app.screen, SavePreset))
        await pilot.press(*"../x")
        assert "cannot be a preset's name" in text(pilot.app)
        await pilot.press(*["backspace"] * 4, *"mine", "tab", *"seven", "enter")
        await until(pilot, lambda: pilot.app.screen is screen)
        assert (tmp_path / "presets" / "mine.toml").read_text() == 'about = "seven"\n\n[layer]\nK = 7\n'
        assert screen.command == "convnn run mine" and not screen.draft.typed


async def test_overwriting_shows_what_changes_and_that_the_file_was_edited_elsewhere(tmp_path):
    path = tmp_path / "presets" / "small.toml"
    async with opened(tmp_path) as (pilot, screen):
        await put(pilot, screen, "layer.K", "7")
        await pilot.press("ctrl+s")
        await until(pilot, lambda: isinstance(pilot.app.screen, SavePreset))
        await pilot.press("ctrl+s")
        await until(pilot, lambda: "enter replaces it" in text(pilot.app))
        assert "5 → 7" in text(pilot.app) and "edited by another program" not in text(pilot.app)
        path.write_text(PRESET.replace("5", "6"))
        await pilot.press("ctrl+s")
        await until(pilot, lambda: "edited by another program" in text(pilot.app))
        assert "6 → 7" in text(pilot.app) and "K = 6" in path.read_text()
        assert "comments will be lost" not in text(pilot.app)
        path.write_text("[ # no TOML")
        await pilot.press("ctrl+s")
        await until(pilot, lambda: "comments will be lost" in text(pilot.app))
        await pilot.press("ctrl+s")
        await until(pilot, lambda: pilot.app.screen is screen)
        assert store.read("small").values == {"model.width": 0.125, "layer.K": 7, "data.dataset": "digits"}


async def test_saving_under_the_name_of_a_shipped_preset_says_that_it_hides_it(tmp_path):
    async with opened(tmp_path, "quickstart") as (pilot, screen):
        await pilot.press("ctrl+s")
        await until(pilot, lambda: isinstance(pilot.app.screen, SavePreset))
        await until(
            pilot, lambda: "it hides the quickstart that ships" in str(pilot.app.screen.query_one("#message").render())
        )
        await pilot.press("enter")  # goes on to the about line
        assert pilot.app.screen is not screen and not (tmp_path / "presets" / "quickstart.toml").exists()
        await pilot.press("enter")
        await until(pilot, lambda: (tmp_path / "presets" / "quickstart.toml").exists())


def test_the_dataset_of_a_draft_follows_what_is_typed():
    draft = Draft()
    original = draft.dataset_key
    draft.type("data.dataset", "digits")
    assert draft.dataset_key == ("digits", *original[1:])
    draft.type("layer.K", "4")
    draft.reset("data.dataset")
    assert draft.dataset_key == original


async def test_a_draft_with_a_problem_is_neither_saved_nor_launched(tmp_path):
    async with opened(tmp_path) as (pilot, screen):
        await put(pilot, screen, "layer.K", "0")
        for key in ("ctrl+s", "f5", "f6"):
            await pilot.press(key)
            await until(pilot, lambda: "layer.K is 0" in messages(pilot.app))
            assert pilot.app.screen is screen and not pilot.app.launcher.launches
            assert screen.query_one(Form).focused_field.option.key == "layer.K"


@pytest.mark.parametrize(
    ("ways", "quits"),
    [([("escape",)], False), ([("ctrl+q",), ("ctrl+c", "ctrl+c"), ("ctrl+p", *"quit", "enter"), ("q",)], True)],
    ids=["the form", "the app"],
)
async def test_leaving_a_changed_form_asks_by_every_key(tmp_path, ways, quits):
    async with opened(tmp_path) as (pilot, screen):
        await put(pilot, screen, "layer.K", "7")
        screen.query_one(Form).go_to("layer.type")  # which takes no letters

        async def leave(keys: tuple[str, ...]) -> None:
            for key in keys:
                await pilot.press(key)
                if key == "t":  # the palette searches in the background
                    await until(pilot, lambda: "Quit" in text(pilot.app))
                    await pilot.pause(0.2)
            await until(pilot, lambda: isinstance(pilot.app.screen, Choice))
            assert "1 option was changed here and not saved" in text(pilot.app)

        for keys in ways:
            await leave(keys)
            await pilot.press("escape")
            await until(pilot, lambda: pilot.app.screen is screen)
            assert pilot.app.is_running and screen.draft.typed
        await leave(ways[-1])
        await pilot.press("down", "down", "enter")
        await until(pilot, lambda: not pilot.app.is_running if quits else not screen.is_attached)


async def test_saving_on_the_way_out_leaves_after_the_preset_is_saved(tmp_path):
    async with opened(tmp_path) as (pilot, screen):
        await put(pilot, screen, "layer.K", "7")
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(pilot.app.screen, Choice))
        await pilot.press("s", "enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, SavePreset))
        await pilot.press("ctrl+s", "ctrl+s")
        await until(pilot, lambda: not screen.is_attached)
        assert store.read("small").values["layer.K"] == 7 and pilot.app.is_running


async def test_an_unchanged_form_is_left_without_a_question(tmp_path):
    async with opened(tmp_path) as (pilot, screen):
        await put(pilot, screen, "layer.K", "7")
        await pilot.press("ctrl+r")
        await until(pilot, lambda: not screen.draft.typed)
        await pilot.press("escape")
        await until(pilot, lambda: pilot.app.screen is pilot.app.screen_stack[0])


async def test_f6_adds_the_run_to_the_queue_where_a_worker_trains_it(tmp_path):
    (tmp_path / "presets" / "tiny.toml").write_text(TINY)
    async with opened(tmp_path, "tiny") as (pilot, screen):
        queue = pilot.app.background.queue
        queue.pause("a test")
        await pilot.press("f6")
        await until(pilot, lambda: not screen.is_attached)
        (entry,) = queue.entries()[0]
        assert entry.name == "tiny" and parse_run(entry.config) == with_absolute_data_path(screen.checked.config)
        assert "paused: a test" in messages(pilot.app) and not pilot.app.launcher.launches
        queue.resume()
        screen = await form(pilot, "n")
        await pilot.press("f2", *"convnn run tiny --seed 1", "enter", "f6")
        await until(pilot, lambda: not screen.is_attached)
        assert "2 runs in the queue" in messages(pilot.app)
        for _ in range(600):
            if not queue.entries()[0]:
                break
            await pilot.pause(0.1)
        runs, _ = list_runs(tmp_path / "runs")
        assert {(run.config().training.seed, run.status()) for run in runs} == {(0, "done"), (1, "done")}
        for _ in range(100):
            if not live_workers(queue):
                break
            await pilot.pause(0.1)


# -- several values ---------------------------------------------------------------------------------------------------


async def fill(pilot, screen, **texts: str) -> None:
    """Type texts into fields by the names of their flags."""
    for name, word in texts.items():
        await put(pilot, screen, BY_NAME[name].key, word)


async def test_several_values_are_planned_as_runs_and_the_head_counts_them(tmp_path):
    async with opened(tmp_path) as (pilot, screen):
        await fill(pilot, screen, K="1,4,9", lr="1e-3,1e-4", seed="0..2")
        await until(pilot, lambda: screen.checked.sweep is not None)
        assert not screen.checked.problems and len(screen.checked.cells) == 18
        assert {(cell.config.layer.K, cell.config.optimizer.lr, cell.seed) for cell in screen.checked.cells} == {
            (k, rate, seed) for k in (1, 4, 9) for rate in (1e-3, 1e-4) for seed in (0, 1, 2)
        }
        flops = sum(cell.training_flops for cell in screen.checked.cells)
        assert f"18 runs, {prefixed(flops)}FLOPs" in text(pilot.app)
        assert screen.command == "convnn sweep run small --K 1,4,9 --lr 1e-3,1e-4 --seed 0..2"
        await pilot.press("ctrl+s")
        await until(pilot, lambda: isinstance(pilot.app.screen, Prompt))
        pilot.app.screen.query_one(Input).value = str(tmp_path / "mine")
        await pilot.press("enter")
        await until(pilot, lambda: "sweep run" in messages(pilot.app))
        saved = plan_sweep(read_sweep(tmp_path / "mine.toml")).cells
        assert [cell.key for cell in saved] == [cell.key for cell in screen.checked.cells]
        screen.query_one(CostPanel).costs._epoch_times[screen.checked.config] = EpochTime(10.0, "measured")
        screen.query_one(CostPanel).post_message(CostPanel.Measured())
        await until(pilot, lambda: "18 runs, about 1 h" in text(pilot.app) or "18 runs, about" in text(pilot.app))
        command = screen.command
        await fill(pilot, screen, K="5")
        screen.post_message(CommandPasted(command))
        await until(pilot, lambda: len(screen.checked.cells) == 18)


NOT_ALLOWED = (
    ("K", "1,0", "layer.K is 0"),
    ("K", "1,x", "layer.K is 'x'"),
    ("K", "4,4", "K has 4 twice"),
    ("K", "9..1", "never reaches"),
    ("K", "1..9999999", "at most 100,000"),
    ("K", "1..301", "at most 300"),
    ("seed", "0..500", "at most 300"),
    ("layer", "ConvNN,ConvNet", "layer.type is 'ConvNet'"),
    ("limit", "10,", "data.limit"),
)


async def test_a_list_with_a_value_that_is_not_allowed_is_a_problem_of_its_field(tmp_path):
    for name, word, message in NOT_ALLOWED:
        draft = Draft(store.read("small"))
        draft.type(BY_NAME[name].key, word)
        checked = draft.check()
        if checked.varied:
            checked = draft.with_plan(checked)
        (problem,) = checked.problems_of(BY_NAME[name].key)
        assert message in problem.message
    async with opened(tmp_path) as (pilot, screen):
        await fill(pilot, screen, seed="0..500")
        await until(pilot, lambda: screen.checked.problems_of("training.seed"))
        await pilot.press("f5")
        await until(pilot, lambda: "at most 300" in messages(pilot.app))
        assert not pilot.app.launcher.launches


async def test_cells_that_cannot_be_trained_are_left_out_and_all_of_them_are_a_problem(tmp_path):
    async with opened(tmp_path) as (pilot, screen):
        await fill(pilot, screen, K="9999,4")
        await until(pilot, lambda: screen.checked.sweep is not None)
        assert not screen.checked.problems
        assert [cell.config.layer.K for cell in screen.checked.cells] == [4]
        assert "1 cell cannot be trained" in text(pilot.app)
        await fill(pilot, screen, K="9998,9999")
        await until(pilot, lambda: screen.checked.problems)
        assert screen.checked.problems[0].key == "layer.K"


async def test_choices_and_switches_take_several_values_by_comma(tmp_path):
    async with opened(tmp_path) as (pilot, screen):
        screen.query_one(Form).go_to("layer.type")
        await pilot.press("comma")
        await until(pilot, lambda: isinstance(pilot.app.screen, Choice))
        await pilot.press("space", "C", "o", "n", "v", "2")  # letters go to a choice
        await pilot.press("escape")
        await pilot.press("comma", "down", "space", "enter")
        await until(pilot, lambda: "," in screen.draft.text(BY_KEY["layer.type"]))
        layers = screen.draft.text(BY_KEY["layer.type"]).split(",")
        await until(pilot, lambda: screen.checked.sweep is not None)
        assert [cell.config.layer.type for cell in screen.checked.cells] == layers and len(layers) == 2
        screen.query_one(Form).go_to("data.augment")
        await pilot.press("comma")
        await until(pilot, lambda: len(screen.checked.cells) == 4)


async def test_several_values_run_in_the_app_one_after_the_other(tmp_path):
    (tmp_path / "presets" / "tiny.toml").write_text(TINY)
    async with opened(tmp_path, "tiny") as (pilot, screen):
        await fill(pilot, screen, lr="1e-3,1e-4")
        await pilot.press("f5")
        await until(pilot, lambda: len(pilot.app.launcher.launches) == 2)
        assert [launch.config.optimizer.lr for launch in pilot.app.launcher.launches] == [1e-3, 1e-4]
        assert pilot.app.launcher.wait(60)
    runs, _ = list_runs(tmp_path / "runs")
    assert {(run.config().optimizer.lr, run.status()) for run in runs} == {(1e-3, "done"), (1e-4, "done")}


async def test_several_values_go_into_the_queue_as_a_sweep(tmp_path):
    (tmp_path / "presets" / "tiny.toml").write_text(TINY)
    async with opened(tmp_path, "tiny") as (pilot, screen):
        queue = pilot.app.background.queue
        queue.pause("a test")
        await fill(pilot, screen, lr="1e-3,1e-4")
        await pilot.press("f6")
        await until(pilot, lambda: not screen.is_attached)
        assert [(entry.sweep, entry.cell) for entry in queue.entries()[0]] == [("tiny-lr", 1), ("tiny-lr", 2)]
        screen = await form(pilot, "n")
        await pilot.press("f2", *"convnn sweep run tiny --lr 1e-3,1e-5", "enter", "f6")
        await until(pilot, lambda: not screen.is_attached)
        assert [entry.sweep for entry in queue.entries()[0][2:]] == ["tiny-lr-2"] * 2  # other values: another sweep
        assert not pilot.app.launcher.launches
