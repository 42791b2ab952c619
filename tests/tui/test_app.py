"""What holds everywhere: sizes, looks, help, palette, plain terminals, and no torch before a launch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.app import app, form, make_runs, text, until
from textual import events
from textual.command import CommandPalette

from tui.dialogs.help import HelpScreen
from tui.dialogs.too_small import TooSmall
from tui.keys import KEYS
from tui.screens.run.screen import RunScreen
from tui.theme import AsciiFilter, ascii_cells

PRESET = 'about = "a small look"\n\n[data]\ndataset = "digits"\n'


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    """Runs, in an empty working directory with one preset of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "presets").mkdir()
    (tmp_path / "presets" / "aaa.toml").write_text(PRESET)
    make_runs(tmp_path / "runs")
    return tmp_path / "runs"


FRESH = """
import asyncio, sys
from pathlib import Path
from tui.app import ConvnnApp
async def main():
    app = ConvnnApp(Path("runs"))
    async with app.run_test() as pilot:
        await pilot.press("n")
        await pilot.pause(0.3)
        assert type(app.screen).__name__ == "SetupScreen", app.screen
    print(*(name for name in ("torch", "torchvision", "numpy") if name in sys.modules))
asyncio.run(main())
"""


def test_home_and_the_form_open_without_torch():
    done = subprocess.run([sys.executable, "-c", FRESH], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


async def test_a_terminal_that_is_too_small_gets_one_line_and_then_the_app_back(root):
    async with app(root).run_test(size=(80, 24)) as pilot:
        await pilot.resize_terminal(59, 20)
        await until(pilot, lambda: isinstance(pilot.app.screen, TooSmall))
        assert text(pilot.app).strip() == "convnn needs 60x15, this is 59x20"
        await pilot.resize_terminal(60, 15)
        await until(pilot, lambda: not isinstance(pilot.app.screen, TooSmall))
        assert "runs" in text(pilot.app)


async def test_the_footer_shows_at_most_six_keys_and_help_shows_them_all(root):
    async with app(root).run_test(size=(120, 60)) as pilot:
        for keys in ([], ["n"]):
            await pilot.press(*keys)
            await pilot.pause(0.2)
            assert 3 <= len(pilot.app.screen.query_one("Footer").keys()) <= 6
        await pilot.press("escape")
        await pilot.press("question_mark")
        await until(pilot, lambda: isinstance(pilot.app.screen, HelpScreen))
        screen = text(pilot.app)
        for id in ("filter", "new", "duplicate", "delete", "undo", "open", "leave"):
            assert KEYS[id].help[:30] in screen
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(pilot.app.screen, HelpScreen))


async def test_the_palette_knows_every_action_and_does_it(root):
    async with app(root).run_test(size=(120, 40)) as pilot:
        helps = [command.help for command in pilot.app.get_system_commands(pilot.app.screen)]
        assert len(helps) == len(set(helps)), "an action twice"
        assert {KEYS[id].help for id in ("filter", "new", "duplicate", "undo", "open", "leave", "help")} <= set(helps)
        await pilot.press("ctrl+p")
        await until(pilot, lambda: isinstance(pilot.app.screen, CommandPalette))
        await pilot.press(*"light theme")
        await pilot.pause(0.3)
        await pilot.press("enter")
        await until(pilot, lambda: pilot.app.theme == "convnn-light")


async def test_a_theme_chosen_in_the_palette_is_remembered(root, monkeypatch):
    monkeypatch.delenv("COLORFGBG", raising=False)
    async with app(root).run_test() as pilot:
        assert pilot.app.theme == "convnn-dark"
        light = next(c for c in pilot.app.get_system_commands(pilot.app.screen) if c.title == "Light theme")
        light.callback()
    assert app(root).theme == "convnn-light" and app(root, theme_name="dark").theme == "convnn-dark"
    Path(os.environ["XDG_CONFIG_HOME"], "convnn", "settings.toml").write_text("theme = [no TOML")
    assert app(root).theme == "convnn-dark"


async def test_letters_are_text_in_a_field_and_keys_elsewhere(root):
    async with app(root).run_test() as pilot:
        screen = await form(pilot)
        screen.query_one("#form").go_to("run.name")
        await pilot.press("q", "r")
        await until(pilot, lambda: screen.draft.typed == {"run.name": "qr"})
        assert pilot.app.is_running and not pilot.app.launcher.launches


@pytest.mark.parametrize("opened", [(), ("t",)], ids=["home", "runs"])
async def test_what_is_typed_right_after_the_filter_key_is_the_filter(root, opened):
    async with app(root).run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "✓ done" in text(pilot.app))
        await pilot.press(*opened)
        await until(pilot, lambda: "✓ done" in text(pilot.app))
        for key, character in (("slash", "/"), ("q", "q"), ("slash", "/")):
            pilot.app.post_message(events.Key(key, character))
        await until(pilot, lambda: getattr(pilot.app.focused, "value", "") == "q/")


async def test_what_is_typed_on_the_way_out_does_nothing(root):
    async with app(root).run_test() as pilot:
        await until(pilot, lambda: "✓ done" in text(pilot.app))
        for key in "qtn":
            pilot.app.post_message(events.Key(key, key))
        await until(pilot, lambda: not pilot.app.is_running)
    assert pilot.app.return_code == 0


async def test_no_color_draws_in_greys(root, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    async with app(root).run_test() as pilot:
        await until(pilot, lambda: "✓ done" in text(pilot.app))
        for strip in pilot.app.screen._compositor.render_strips():
            for segment in strip.apply_filter(pilot.app._filters[1], pilot.app.screen.background_colors[1]):
                for colour in (segment.style.color, segment.style.bgcolor) if segment.style else ():
                    assert colour is None or len(set(colour.get_truecolor())) == 1


def test_a_bar_and_the_sign_of_a_change_are_seen_in_ascii_too():
    assert ascii_cells("━━─ • K") == "==- * K"


async def test_a_terminal_without_utf8_gets_ascii_only(root, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    ascii_app = app(root)
    monkeypatch.setenv("TERM", "xterm")
    async with ascii_app.run_test() as pilot:
        await until(pilot, lambda: "done" in text(ascii_app))
        ascii_filter = ascii_app._filters[-1]
        assert isinstance(ascii_filter, AsciiFilter)
        lines = [
            "".join(s.text for s in strip.apply_filter(ascii_filter, ascii_app.screen.background_colors[1]))
            for strip in ascii_app.screen._compositor.render_strips()
        ]
        assert all(line.isascii() for line in lines)
        assert any("+ done" in line for line in lines) and "?" not in "".join(lines[:-1])


@pytest.mark.parametrize("size", [(60, 15), (80, 18), (80, 21)])
async def test_every_screen_is_usable_below_22_lines(root, size):
    async with app(root).run_test(size=size) as pilot:
        await until(pilot, lambda: len(pilot.app.runs) == 6 and pilot.app.screen.presets)
        assert sum(status in text(pilot.app) for status in ("done", "stopped", "interrupted", "failed", "died")) >= 4
        assert "published-branching" in text(pilot.app) and text(pilot.app).endswith("q quit")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, RunScreen) and "✓ done" in text(pilot.app))
        await until(pilot, lambda: all(word in text(pilot.app) for word in ("1 progress", "2 loss", "q quit")))
        await pilot.press("escape")
        screen = await form(pilot)
        rows = [field for field in screen.query("FormField") if field.region in screen.query_one("#form").region]
        assert len(rows) >= 3 and "model architecture" in text(pilot.app)
        assert all(word in text(pilot.app) for word in ("FLOPs", "convnn run", "q quit"))
