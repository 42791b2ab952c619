"""Every key of the app in one table: an id, the keys, a word for the footer and what it does.

A screen or widget binds ids; the action of id `next-problem` is the method `action_next_problem`.
"""

from __future__ import annotations

from dataclasses import dataclass

from textual.binding import Binding, BindingType


@dataclass(frozen=True)
class Key:
    """Keys that do one thing everywhere."""

    keys: str
    word: str  # the footer's
    about: str  # the palette's and the help's
    label: str | None = None  # the key as people write it, where that is not its Textual name
    priority: bool = False  # it is done before any key after it is looked at
    action: str | None = None  # where it is not that of the id


KEYS = {
    "help": Key("question_mark,f1", "help", "what the focused pane shows and which keys it knows", "?"),
    "leave": Key("q", "quit", "leave the app; with a live run it asks first"),
    "leave-now": Key("ctrl+q", "quit", "leave the app from anywhere; with a live run it asks first", priority=True),
    "interrupt": Key("ctrl+c", "stop", "stop the live run after its step; twice within 3 s at once", priority=True),
    "back": Key("escape", "back", "clear the filter, close this, or go back", "esc"),
    "filter": Key("slash", "filter", "show only what matches", "/", priority=True),
    "open": Key("enter", "open", "open what is under the cursor", "enter"),
    "mark": Key("space", "mark", "mark a run, or every run of a group, to compare or delete"),
    "unmark": Key("M", "unmark all", "take all marks away"),
    "pin": Key("p", "pin", "keep a run on top; the first one that is pinned is what others are compared with"),
    "diff": Key("d", "compare", "hold the marked runs against each other: what differs, figures, curves"),
    "reference": Key("p", "reference", "hold the runs against the next of them"),
    "metric": Key("m", "metric", "choose the metric of the curves and figures"),
    "sort": Key("s", "sort", "sort by the next column"),
    "reverse": Key("S", "reverse", "reverse the order"),
    "columns": Key("c", "columns", "choose columns; at first those that differ"),
    "group": Key("o", "group", "group the runs by options, with n, mean and deviation"),
    "table": Key("t", "table", "all runs in a table: sort, group, mark and compare them"),
    "complete": Key("tab", "complete", "complete the last word of the filter"),
    "up": Key("up,k", "up", "a row up", "↑"),
    "down": Key("down,j", "down", "a row down", "↓"),
    "left": Key("left,h", "left", "to the left", "←"),
    "right": Key("right,l", "right", "to the right", "→"),
    "page-up": Key("pageup", "page up", "a page up"),
    "page-down": Key("pagedown", "page down", "a page down"),
    "first": Key("home,g", "first", "to the first row"),
    "last": Key("end,G", "last", "to the last row"),
    "new": Key("n", "new run", "an empty form: a new run from the defaults"),
    "new-from": Key("n", "new from it", "a new run from the settings of this one; the form shows what you change"),
    "duplicate": Key("ctrl+d", "duplicate", "the same again: a run's settings in the form, or a copy of a preset"),
    "delete": Key("delete,backspace", "delete", "move to the trash", "del"),
    "undo": Key("u", "undo", "bring back what was deleted last"),
    "next": Key("tab", "next", "to the next pane or field", priority=True, action="app.focus_next"),
    "previous": Key("shift+tab", "previous", "to the one before", priority=True, action="app.focus_previous"),
    "launch": Key("f5", "run", "train this configuration in the app"),
    "launch-letter": Key("r", "run", "train this configuration in the app"),
    "detach": Key("f6", "run detached", "train in a process of its own, which outlives the app"),
    "fix": Key("f4", "apply fix", "apply the fix of the problem at the cursor, else of the first one"),
    "next-problem": Key("f8", "next problem", "to the next problem"),
    "previous-problem": Key("shift+f8", "previous problem", "to the previous problem"),
    "save": Key("ctrl+s", "save", "save the form as a preset"),
    "copy": Key("ctrl+y", "copy command", "copy the command that does the same"),
    "command": Key("f2", "command", "to the command line: type or paste a command to fill the form"),
    "reset": Key("ctrl+r", "reset", "the focused field as the preset, or else the default, has it"),
    "time": Key("ctrl+t", "time", "time a few real steps in a process of their own"),
    "increase": Key("up", "more", "the next value", "↑"),
    "decrease": Key("down", "less", "the previous value", "↓"),
    "next-section": Key("ctrl+pagedown,pagedown", "next section", "to the next section", "pgdn"),
    "previous-section": Key("ctrl+pageup,pageup", "previous section", "to the previous section", "pgup"),
    "x-axis": Key("x", "x axis", "steps, epochs or seconds"),
    "y-scale": Key("y", "y scale", "linear or logarithmic"),
    "smooth": Key("e", "smooth", "smoothing of the curves"),
    "zoom-in": Key("plus", "zoom in", "a shorter part of the curves", "+"),
    "zoom-out": Key("minus", "zoom out", "a longer part of the curves", "-"),
    "zoom-reset": Key("0", "all", "the whole of the curves"),
    "stop-menu": Key("full_stop", "pause or stop", "pause, go on, stop after the epoch or now", "."),
}


def bindings(*ids: str, footer: tuple[str, ...] = ()) -> list[BindingType]:
    """Return the bindings of a screen or widget for these ids; those in `footer` are shown there."""
    return [
        Binding(
            key.keys,
            key.action or id.replace("-", "_"),
            key.word,
            show=id in footer,
            key_display=key.label,
            priority=key.priority,
            tooltip=key.about,
            id=id,
        )
        for id, key in ((id, KEYS[id]) for id in ids)
    ]
