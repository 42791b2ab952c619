"""Every key of the app in one table, from which the footer, the help, the palette and the documentation are made.

A screen or widget binds ids of the table; the action of the id `pause-queue` is the method `action_pause_queue`.
"""

from __future__ import annotations

from dataclasses import dataclass

from textual.binding import Binding, BindingType


@dataclass(frozen=True)
class Key:
    """Keys that do one thing everywhere."""

    keys: str  # Textual's names, with commas between; the first one is the one that is shown
    word: str  # in the footer
    help: str  # in the help and the palette
    label: str | None = None  # the first key as people write it, where that is not its Textual name
    priority: bool = False  # handled before the focused widget and any later key
    action: str | None = None  # where the id does not name it, or where others differ in an argument alone


KEYS = {
    "help": Key("question_mark,f1", "help", "what the focused pane shows, and its keys", "?"),
    "leave": Key("q", "quit", "quit; asks first while a run trains here or a form has unsaved changes"),
    "leave-now": Key("ctrl+q", "quit", "quit from anywhere; asks as q does", priority=True),
    "interrupt": Key(
        "ctrl+c", "stop", "stop the live run after its step; twice within 3 s quits at once", priority=True
    ),
    "back": Key("escape", "back", "clear the filter, close this, or go back", "esc"),
    "filter": Key("slash", "filter", "show only the matches", "/", priority=True),
    "open": Key("enter", "open", "open what is under the cursor", "enter"),
    "mark": Key("space", "mark", "mark or unmark a run, or all runs of a group, to compare or delete"),
    "mark-answer": Key("space", "mark", "mark or unmark this answer"),
    "unmark": Key("M", "unmark all", "unmark all runs"),
    "pin": Key("p", "pin", "pin a run to the top; the others are compared with the first pinned run"),
    "diff": Key("d", "compare", "compare the marked runs: options that differ, metrics, curves"),
    "reference": Key("p", "reference", "compare with the next of the runs"),
    "metric": Key("m", "metric", "choose the metric that is shown or compared"),
    "sort": Key("s", "sort", "sort by the next column, the best first; a click on a column's title sorts by it"),
    "reverse": Key("S", "reverse", "reverse the order"),
    "columns": Key("c", "columns", "choose columns; the default is the options that differ"),
    "views": Key("v", "views", "show a saved view, or save filter, order, columns and groups as one"),
    "early-failures": Key("a", "all runs", "list also the runs that failed before their first step, or not"),
    "group": Key("o", "group", "group the runs by options, with n, mean and standard deviation"),
    "table": Key("t", "table", "all runs in a table, to sort, group and compare"),
    "complete": Key("tab", "complete", "complete the last word of the filter"),
    "up": Key("up,k", "up", "one row up", "↑", action="move_row(-1)"),
    "down": Key("down,j", "down", "one row down", "↓", action="move_row(1)"),
    "left": Key("left,h", "left", "to the left", "←", action="move_column(-1)"),
    "right": Key("right,l", "right", "to the right", "→", action="move_column(1)"),
    "page-up": Key("pageup", "page up", "one page up", action="move_page(-1)"),
    "page-down": Key("pagedown", "page down", "one page down", action="move_page(1)"),
    "first": Key("home,g", "first", "to the first row"),
    "last": Key("end,G", "last", "to the last row"),
    "new": Key("n", "new run", "a new run from the defaults, in the form"),
    "duplicate": Key("ctrl+d", "duplicate", "a new run from the options of this one, in the form; copies a preset"),
    "delete": Key("delete", "delete", "move to the trash", "del"),
    "undo": Key("u", "undo", "undo the last deletion"),
    "earlier": Key("K,shift+up", "earlier", "move the entry up in the queue", action="move_entry(-1)"),
    "later": Key("J,shift+down", "later", "move the entry down in the queue", action="move_entry(1)"),
    "pause-queue": Key("P", "pause queue", "pause the queue, or start its entries again"),
    "next": Key("tab", "next", "to the next pane or field", priority=True, action="app.focus_next"),
    "previous": Key(
        "shift+tab", "previous", "to the previous pane or field", priority=True, action="app.focus_previous"
    ),
    "launch": Key("f5", "run", "train this configuration in the app; several values one after the other"),
    "launch-letter": Key("r", "run", "train this configuration in the app"),
    "enqueue": Key("f6", "background", "add to the queue, which trains in the background, also when the app is closed"),
    "fix": Key("f4", "apply fix", "apply the fix of the problem at the cursor, or else of the first one"),
    "next-problem": Key("f8", "next problem", "to the next problem", action="go_to_problem(1)"),
    "previous-problem": Key("shift+f8", "previous problem", "to the previous problem", action="go_to_problem(-1)"),
    "save": Key("ctrl+s", "save", "save the form as a preset, one with several values as a sweep file"),
    "copy": Key("ctrl+y", "copy command", "copy the command that launches this run"),
    "command": Key("f2", "command", "go to the command line: a command typed or pasted there fills the form"),
    "reset": Key("ctrl+r", "reset", "reset the focused field"),
    "time": Key("ctrl+t", "time", "time a few training steps in another process"),
    "previous-field": Key("up", "previous field", "to the previous field", "↑", action="go_to_field(-1)"),
    "next-field": Key("down", "next field", "to the next field", "↓", action="go_to_field(1)"),
    "find-field": Key("slash", "field", "go to a field by name", "/", priority=True),
    "find-field-anywhere": Key("ctrl+g", "field", "go to a field by name, also while a text is edited"),
    "pick": Key("enter,space", "choose", "list the choices of a field, or switch it on or off"),
    "several": Key("comma", "several", "choose several values, a run each", ","),
    "previous-value": Key(
        "left,ctrl+up,shift+up", "previous value", "the choice above, or off", "←", action="change_value(-1)"
    ),
    "next-value": Key(
        "right,ctrl+down,shift+down", "next value", "the choice below, or on", "→", action="change_value(1)"
    ),
    "increase": Key("ctrl+up,shift+up", "more", "a larger number", action="step_number(1)"),
    "decrease": Key("ctrl+down,shift+down", "less", "a smaller number", action="step_number(-1)"),
    "next-section": Key(
        "ctrl+pagedown,pagedown", "next section", "to the next section", "pgdn", action="go_to_section(1)"
    ),
    "previous-section": Key(
        "ctrl+pageup,pageup", "previous section", "to the previous section", "pgup", action="go_to_section(-1)"
    ),
    "x-axis": Key("x", "x axis", "x axis in epochs, steps or seconds"),
    "y-scale": Key("y", "y scale", "y axis linear or logarithmic"),
    "smooth": Key("e", "smooth", "smooth the curves"),
    "zoom-in": Key("plus", "zoom in", "zoom in", "+", action="zoom(1)"),
    "zoom-out": Key("minus", "zoom out", "zoom out", "-", action="zoom(-1)"),
    "zoom-reset": Key("0", "zoom reset", "show the whole curves or the whole image"),
    "next-layer": Key(
        "right_square_bracket", "next layer", "to the next layer of the model", "]", action="change_layer(1)"
    ),
    "previous-layer": Key(
        "left_square_bracket", "previous layer", "to the previous layer of the model", "[", action="change_layer(-1)"
    ),
    "image": Key("i", "image", "choose the image: a number of the test images or of another split, or a file"),
    "weights": Key("b", "checkpoint", "choose the checkpoint: best, last or an epoch"),
    "second-weights": Key("B", "beside", "choose a second checkpoint or run to compare with"),
    "figure": Key("f", "figure", "write what is shown into a new file: .png, .svg, .json or .safetensors"),
    "sort-classes": Key("s", "sort", "order of the classes: by accuracy, errors, number or images"),
    "evaluate": Key("E", "evaluate", "write the predictions of the best checkpoint into the run, in a child process"),
    "stop-menu": Key("full_stop", "pause or stop", "pause, checkpoint or stop the run, and what else can be done", "."),
    "resume-menu": Key("full_stop", "resume", "resume the run, fork or evaluate it, and what else can be done", "."),
    "run-menu": Key("full_stop", "actions", "fork or evaluate the run, and what else can be done with it", "."),
    "sweeps": Key("w", "sweeps", "a sweep: its cells, how far they are, and its results"),
    "stop-sweep": Key("full_stop", "stop", "stop the sweep, or train it with more seeds", "."),
    "resume-sweep": Key("full_stop", "resume", "go on with the sweep, or train it with more seeds", "."),
    "sweep-menu": Key("full_stop", "actions", "train the sweep, which is done, with more seeds", "."),
    "repeat": Key("R", "repeat", "train the run, or every cell of the sweep, with three more seeds"),
    "note": Key("N", "note", "write a line into the history of the run"),
}


def bindings(*ids: str, footer: tuple[str, ...] = ()) -> list[BindingType]:
    """Return the bindings of a screen or widget for these ids; those in `footer` are shown there."""
    return [
        Binding(
            name,
            key.action or id.replace("-", "_"),
            key.word,
            show=id in footer,
            key_display=key.label if index == 0 else None,  # where a text takes the first key, another one is shown
            priority=key.priority,
            tooltip=key.help,
            id=id,
        )
        for id, key in ((id, KEYS[id]) for id in ids)
        for index, name in enumerate(key.keys.split(","))
    ]
