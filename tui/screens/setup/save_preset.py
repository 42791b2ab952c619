"""The dialog that saves the form as a preset: a name, an about line, and what would change in an existing one."""

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
    """Asks for a name and an about line, and shows the differences before it replaces a preset; returns the path."""

    BINDINGS = bindings("next", "previous", "back", "save", footer=("save", "back"))
    DEFAULT_CSS = """
    SavePreset > Vertical { width: 74; max-width: 96%; height: auto; max-height: 92%; padding: 1 2;
                            background: $surface; border: round $primary; border-title-style: bold; }
    SavePreset Input { margin-bottom: 1; background: $panel; padding: 0 1; }
    SavePreset Input:focus { background: $primary-muted; }
    SavePreset Static { height: auto; color: $text-muted; }
    SavePreset #message { color: $foreground; max-height: 12; }
    """

    def __init__(self, config: RunConfig, preset: store.Preset | None, loaded_content: bytes | None) -> None:
        super().__init__()
        self.config = config
        self.preset = preset  # that the form was filled from
        self.loaded_content = loaded_content  # of the preset's file
        self.confirmed: tuple[Path, bytes] | None = None  # (path, content) whose differences were shown

    def compose(self) -> ComposeResult:
        name, about = "", ""
        if self.preset is not None:
            name, about = self.preset.name, self.preset.about
        with Vertical() as box:
            box.border_title = "save as a preset"
            yield Static("name", markup=False)
            yield Input(name, id="name", compact=True, placeholder="my-preset")
            yield Static("about, one line", markup=False)
            yield Input(about, id="about", compact=True)
            yield Static("", id="message", markup=False)

    def on_mount(self) -> None:
        self.show_target()

    @on(Input.Changed)
    def show_target(self) -> None:
        """Show where the preset will be saved, and whether the file exists."""
        self.confirmed = None
        try:
            path = self._path()
        except UserError as error:
            self._show(str(error))
        else:
            message = f"enter saves {path}"
            if path.exists():
                message = f"{path} exists: enter shows what would change in it"
            if hidden := store.hidden_by(path):
                message += f"; it hides {hidden}"
            self._show(message)

    def _show(self, message: str | Text) -> None:
        text = message if isinstance(message, Text) else Text(escaped(message))
        self.query_one("#message", Static).update(text)

    def _text(self, id: str) -> str:
        return self.query_one(f"#{id}", Input).value.strip()

    def _path(self) -> Path:
        """The path to save to. Raises UserError for a name that a preset cannot have."""
        name = self._text("name")
        if not name:
            raise UserError("give it a name")
        path = store.new_path(name)
        if self.preset is None or self.preset.path is None or name != self.preset.name:
            return path
        return self.preset.path if store.is_ours(self.preset.path) else path

    @on(Input.Submitted, "#name")
    def _go_to_about(self) -> None:
        self.query_one("#about").focus()

    @on(Input.Submitted, "#about")
    def action_save(self) -> None:
        """Save; an existing file is replaced only after its differences were shown."""
        try:
            path = self._path()
            content = store.content(path) if path.exists() else None
            if content is not None and self.confirmed != (path, content):
                self.confirmed = (path, content)
                self._show(self._differences(path, content))
                return
            store.save(path, self.config, self._text("about"), overwrite=content is not None)
        except (UserError, OSError) as error:
            self._show(Text(escaped(error), "bold"))
        else:
            self.dismiss(path)

    def _differences(self, path: Path, content: bytes) -> Text:
        """What saving would change in an existing file."""
        old_text = content.decode("utf-8", "replace")
        old_preset = store.parse(old_text, path.stem, path)
        old_config = resolve.resolve(old_preset).config
        text = Text()
        if self.preset is not None and path == self.preset.path and content != self.loaded_content:
            text.append("It was edited by another program since it was loaded here.\n", "bold")
        changes = [
            (option.key, option.text(value_at(old_config, option.key)), option.text(value_at(self.config, option.key)))
            for option in OPTIONS
            if option.section != "output"
        ]
        changes.append(("about", old_preset.about, self._text("about")))
        changes = [(name, old, new) for name, old, new in changes if old != new]
        for name, old, new in changes:
            text.append(f"{name:<22} {escaped(old) or 'nothing'} → ")
            text.append(f"{escaped(new) or 'nothing'}\n", "bold")
        if not changes:
            text.append("Nothing would change in it.\n")
        if not store.keeps_comments(old_text, self.config, self._text("about")):
            text.append("Its comments will be lost: its tables cannot be edited in place.\n", "bold")
        return text.append("enter replaces it, esc goes back", "italic")

    def action_back(self) -> None:
        self.dismiss(None)
