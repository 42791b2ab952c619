"""Text for people: numbers with units, plurals, shortening, control characters escaped, and ASCII spellings."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping

from rich.cells import cell_len, set_cell_size

# the ASCII spelling of each sign that this program writes; all but the one of "±" are as wide as the sign
ASCII_SIGNS = str.maketrans(
    dict(zip("─━│┃┌┐└┘├┤┬┴┼╭╮╰╯╱╲▔▁▏▕▌▐▀▄█▇▆▅▃▂", "-=||+++++++++++++/\\-_||||==####=_", strict=True))
    | dict(zip("●‖◌✓■◧✗≈†", "*=.+#/x~!", strict=True))  # states of runs
    | dict(zip("…·×−–—≥→←↑↓▸▾◂‹›▲▼○◉◆✎•┊’“”", '~.x--->><^v>v<<>^vo@***:\'""', strict=True))
    | {"±": "+-"}
)


def number(value: float, digits: int = 3) -> str:
    """A figure in few characters: 0.812, 71.4, 12.5k, 3.0e-4; NaN and infinities in words."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("inf" if value > 0 else "-inf")
    size = abs(value)
    if size == 0:
        return "0"
    if size >= 1e15 or size < 1e-3:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa}e{int(exponent)}"
    for bound, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if size >= bound:
            return f"{value / (1e3 if unit == 'k' else bound):.{digits}g}{unit}"
    whole = len(str(int(size))) if size >= 1 else 0
    return f"{value:.{max(0, digits - whole)}f}"


def rate(value: float) -> str:
    """A learning rate, always with its power of ten: 3.0e-4."""
    mantissa, _, exponent = f"{value:.1e}".partition("e")
    return f"{mantissa}e{int(exponent)}" if exponent else mantissa


def duration(seconds: float) -> str:
    """A time span in its two largest units: 21.4 s, 49 m, 3 h 20 m, 2 d 4 h."""
    if not math.isfinite(seconds):
        return "?"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} m"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} m" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


def memory(size: float) -> str:
    """Bytes as MB or GB (powers of 1000): 812 MB, 1.2 GB."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def short(value: float) -> str:
    """A count with its prefix, 622.9 M; small ones as they are."""
    for unit, letter in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M")):
        if value >= unit:
            return f"{value / unit:.4g} {letter}"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def plural(count: int, noun: str, nouns: str | None = None) -> str:
    """Return a number of things: "1 run", "1,200 runs", "2 classes" (of "class", "classes")."""
    return f"{count:,} {noun if count == 1 else nouns or noun + 's'}"


def one_line(text: str) -> str:
    """Return the text with line breaks and other runs of white space as single spaces."""
    return " ".join(text.split())


def escaped(text: object) -> str:
    """Text from outside with control characters shown instead of sent to the terminal.

    Escapes, bidirectional overrides and the like become visible `\\x1b` forms; printable characters stay.
    """
    shown = str(text)
    if shown.isprintable():  # nearly always, and lists of runs ask for thousands
        return shown
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)


def ascii_only(encoding: str, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether a terminal shows no more than ASCII: by its encoding, its locale, or for being dumb or a bare console."""
    kind = environment.get("LC_CTYPE", "").replace("C.UTF-8", "")  # Python itself puts that there in the C locale
    locale = environment.get("LC_ALL") or kind or environment.get("LANG")
    plain = not encoding.lower().startswith("utf") or locale in ("C", "POSIX")
    return plain or environment.get("TERM") in ("dumb", "linux")


def to_ascii(text: str) -> str:
    """Return the text in ASCII: signs by their spelling, any other character as an escape such as `\\xfc`."""
    return text if text.isascii() else text.translate(ASCII_SIGNS).encode("ascii", "backslashreplace").decode()


def printable(text: str, ascii: bool) -> str:
    return text.encode("ascii", "backslashreplace").decode() if ascii else text


def fit(text: str, width: int, ascii: bool = False) -> str:
    """The text in at most that many cells, with an ellipsis where it is cut."""
    if cell_len(text) <= width:
        return text
    dots = "..." if ascii else "…"
    return (
        set_cell_size(text, width - len(dots)) + dots if width > 2 * len(dots) else set_cell_size(text, max(0, width))
    )


def since(seconds: float) -> str:
    """How long ago, in at most four characters: now, 12 m, 3 h, 4 d, 11 w, 2 y."""
    for size, unit in ((31_557_600, "y"), (604_800 * 2, "w"), (86_400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{int(seconds // (604_800 if unit == 'w' else size))} {unit}"
    return "now"
