"""Saving the form as a preset: a name, an about line, and what it would replace."""

from __future__ import annotations

from pathlib import Path

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from convnn.config.options import OPTIONS, value_at
from convnn.config.schema import RunConfig
from convnn.errors import UserError
from convnn.presets import resolve, store
from convnn.text import escaped
from tui.keys import bindings


class SavePreset(ModalScreen[Path | None]):
    """Asks for a name and an about line; asks again, with the differences, before it replaces a preset."""

    BINDINGS = bindings("next", "previous", "back", "save", footer=("save", "back"))
    DEFAULT_CSS = """
    SavePreset > Vertical { width: 74; max-width: 96%; height: auto; max-height: 92%; padding: 1 2;
                            background: $surface; border: round $primary; border-title-style: bold; }
    SavePreset Input { margin-bottom: 1; background: $panel; padding: 0 1; }
    SavePreset Input:focus { background: $primary-muted; }
    SavePreset Static { height: auto; color: $text-muted; }
    SavePreset .said { color: $foreground; max-height: 12; }
    """

    def __init__(self, config: RunConfig, loaded: store.Preset | None, seen: bytes | None) -> None:
        super().__init__()
        self.config, self.loaded = config, loaded
        self.seen = seen  # the loaded preset's file, as it was read
        self.agreed: tuple[Path, bytes] | None = None  # what may be replaced: the differences were shown

    def compose(self) -> ComposeResult:
        with Vertical() as box:
            box.border_title = "save as a preset"
            yield Static("name", markup=False)
            yield Input(self.loaded.name if self.loaded else "", id="name", compact=True, placeholder="my-preset")
            yield Static("about, one line", markup=False)
            yield Input(self.loaded.about if self.loaded else "", id="about", compact=True)
            yield Static("", classes="said", markup=False)

    def on_mount(self) -> None:
        self.said()

    @on(Input.Changed)
    def said(self) -> None:
        """Say where it goes, and that something is there."""
        self.agreed = None
        path = self._path()
        if isinstance(path, str):
            self._say(path)
        elif path.exists():
            self._say(f"{escaped(path)} exists: enter shows what would change in it")
        else:
            self._say(f"enter saves {escaped(path)}")

    def _say(self, text: str | Text) -> None:
        self.query_one(".said", Static).update(text)

    def _path(self) -> Path | str:
        """Where it goes, or why not."""
        name = self.query_one("#name", Input).value.strip()
        if not name:
            return "give it a name"
        try:
            path = store.new_path(name)
        except UserError as error:
            return str(error)
        if self.loaded is not None and self.loaded.path is not None and name == self.loaded.name:
            return self.loaded.path if store.is_ours(self.loaded.path) else path
        return path

    @on(Input.Submitted)
    def action_save(self) -> None:
        """Save; what is there is replaced only after its differences were shown."""
        path = self._path()
        if isinstance(path, str):
            return
        try:
            there = path.read_bytes() if path.exists() else None
            if there is not None and self.agreed != (path, there):
                self.agreed = (path, there)
                self._say(self._differences(path, there))
                return
            store.save(path, self.config, self.query_one("#about", Input).value.strip(), overwrite=there is not None)
        except (UserError, OSError) as error:
            self._say(Text(escaped(error), "bold"))
            return
        self.dismiss(path)

    def _differences(self, path: Path, there: bytes) -> Text:
        """What saving would change in the file that is there."""
        before = store.parse(there.decode("utf-8", "replace"), path.stem, path)
        old = resolve.resolve(before).config
        text = Text()
        if self.loaded is not None and path == self.loaded.path and there != self.seen:
            text.append("It was edited elsewhere since it was loaded here.\n", "bold")
        changed = [option for option in OPTIONS if value_at(old, option.key) != value_at(self.config, option.key)]
        changed = [option for option in changed if option.section != "output"]
        for option in changed:
            was, now = (option.text(value_at(config, option.key)) for config in (old, self.config))
            text.append(f"{option.key:<22} {escaped(was) or 'nothing'} → ").append(
                f"{escaped(now) or 'nothing'}\n", "bold"
            )
        about = self.query_one("#about", Input).value.strip()
        if about != before.about:
            text.append(f"{'about':<22} {escaped(before.about) or 'nothing'} → ").append(
                f"{escaped(about) or 'nothing'}\n", "bold"
            )
        if not text:
            text.append("Nothing would change in it.\n")
        return text.append("enter replaces it, esc goes back", "italic")

    def action_back(self) -> None:
        self.dismiss(None)
