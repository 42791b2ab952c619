"""The first and the last line of every screen: where one is, and which keys work here."""

from __future__ import annotations

from rich.cells import cell_len
from rich.text import Text
from textual import events
from textual.widget import Widget

from convnn.text import escaped, fit

MOST_KEYS = 6


class Head(Widget):
    """What this screen shows, and at the right how it is."""

    DEFAULT_CSS = "Head { height: 1; dock: top; background: $panel; padding: 0 1; }"

    def __init__(self, where: str = "", about: str = "") -> None:
        super().__init__()
        self.where, self.about, self.said, self.style_of_said = where, about, "", "dim"

    def say(self, where: str, about: str = "", said: str = "", style: str = "dim") -> None:
        """Show the name of a place, words about it, and at the right something said in a style."""
        told = (where, about, said, style)
        if told != (self.where, self.about, self.said, self.style_of_said):
            self.where, self.about, self.said, self.style_of_said = told
            self.refresh()

    def render(self) -> Text:
        width = self.content_size.width
        where = fit(escaped(self.where), max(1, width - cell_len(self.said) - 9))  # what is said at the right stays
        text = Text.assemble(("convnn", "bold"), ("  ", ""), (where, "bold"), no_wrap=True)
        room = width - text.cell_len - cell_len(self.said) - 4
        if self.about and room > 8:
            text.append("  " + fit(escaped(self.about), room), "dim")
        gap = width - text.cell_len - cell_len(self.said)
        return text.append(" " * max(1, gap)).append(self.said, self.style_of_said)


class Foot(Widget):
    """The keys that do something here: at most six, those of the focused pane first."""

    DEFAULT_CSS = "Foot { height: 1; dock: bottom; background: $panel; padding: 0 1; }"

    def on_mount(self) -> None:
        self.screen.bindings_updated_signal.subscribe(self, lambda _: self.refresh())

    def shown(self) -> list[tuple[str, str, str]]:
        """(action, key, word) of each key in the footer."""
        found: dict[str, tuple[str, str, str]] = {}
        for active in self.screen.active_bindings.values():
            binding = active.binding
            if binding.show and active.enabled and binding.action not in found:
                found[binding.action] = (binding.action, self.app.get_key_display(binding), binding.description)
        keys = list(found.values())
        last = [key for key in keys if key[0] in ("help", "leave")]
        return [key for key in keys if key not in last][: MOST_KEYS - len(last)] + last

    def render(self) -> Text:
        colour = self.app.theme_variables["primary"]
        text = Text(no_wrap=True, overflow="ellipsis")
        for action, key, word in self.shown():
            text.append("   " * bool(text)).append(key, f"bold {colour}").append(f" {word}")
            text.apply_meta({"key": action}, -(len(key) + len(word) + 1))
        return text

    async def on_click(self, event: events.Click) -> None:
        action = event.style.meta.get("key")
        for active in self.screen.active_bindings.values():
            if action is not None and active.binding.action == action:
                await self.app.run_action(action, active.node)
                return
