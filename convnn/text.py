"""Text for people: numbers with units, plurals, shortening, control characters escaped, and ASCII spellings."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence, Sized

from rich.cells import cell_len, set_cell_size

# the ASCII spelling of each sign that this program writes; all but the one of "±" are as wide as the sign
ASCII_SIGNS = str.maketrans(
    dict(zip("─━│┃┌┐└┘├┤┬┴┼╭╮╰╯╱╲▔▁▏▕▌▐▀▄█▇▆▅▃▂", "-=||+++++++++++++/\\-_||||==####=_", strict=True))
    | dict(zip("●‖◌↻✓■▪◧✗≈†", "*=.@+#-/x~!", strict=True))  # states of runs
    | dict(zip("…·×−–—≥→←↑↓▸▾◂‹›▲▼○◉◆✎•┊’“”", '~.x--->><^v>v<<>^vo@***:\'""', strict=True))
    | {"±": "+-"}
)


def number(value: float) -> str:
    """Return a value in few characters: 0.812, 71.4, 12.5k, 3.0e-4, NaN, -inf."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return f"{value}"
    size = abs(value)
    if size == 0:
        return "0"
    if size >= 1e15 or size < 1e-3:
        return power_of_ten(value)
    for bound, divisor, prefix in ((1e12, 1e12, "T"), (1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if size >= bound:
            return f"{value / divisor:.3g}{prefix}"
    integer_digits = len(str(int(size))) if size >= 1 else 0
    return f"{value:.{max(0, 3 - integer_digits)}f}"


def power_of_ten(value: float) -> str:
    """Return a value such as a learning rate with its power of ten, whatever its size: 3.0e-4."""
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def prefixed(value: float) -> str:
    """Return a count with its SI prefix, "622.9 M", and a small one as it is."""
    for bound, prefix in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M")):
        if value >= bound:
            return f"{value / bound:.4g} {prefix}"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def duration(seconds: float) -> str:
    """Return a time span in its two largest units: 21.4 s, 49 m, 3 h 20 m, 2 d 4 h."""
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


def age_text(seconds: float) -> str:
    """Return how long ago something was, in at most four characters: now, 12 m, 3 h, 4 d, 11 w, 2 y."""
    minute, hour, day, week, year = 60, 3600, 86_400, 604_800, 31_557_600
    for least, unit, name in ((year, year, "y"), (2 * week, week, "w"), (day, day, "d"), (hour, hour, "h")):
        if seconds >= least:
            return f"{int(seconds // unit)} {name}"
    return f"{int(seconds // minute)} m" if seconds >= minute else "now"


def memory(size: float) -> str:
    """Return a number of bytes in binary units, as PyTorch and nvidia-smi do: 812 MiB, 1.2 GiB."""
    mebibytes = size / 2**20
    return f"{mebibytes / 1024:,.1f} GiB" if mebibytes >= 1024 else f"{mebibytes:.0f} MiB"


def count_text(count: int | None) -> str:
    """Return a count as text, "-" for None."""
    return "-" if count is None else str(count)


def part_text(part: Sized, whole: Sized) -> str:
    """Return ", 3 of 1,200" where a part is smaller than the whole."""
    return f", {len(part):,} of {len(whole):,}" if len(part) < len(whole) else ""


def plural(count: int, noun: str, nouns: str | None = None) -> str:
    """Return a number of things: "1 run", "1,200 runs", "2 classes" (of "class", "classes")."""
    return f"{count:,} {noun if count == 1 else nouns or noun + 's'}"


def joined(names: Sequence[str], most: int) -> str:
    """Return "a, b, c", or "a, b and 3 more" where there are more than so many."""
    text = ", ".join(names[:most])
    return f"{text} and {len(names) - most} more" if len(names) > most else text


def last_message(output: str) -> str:
    """Return the last error that a command printed, or else its last line; empty where it printed nothing."""
    lines = [line for line in output.split("\n") if line.strip()]
    errors = [line for line in lines if line.startswith("error: ")]
    return ("", *lines, *errors)[-1].removeprefix("error: ").strip()


def one_line(text: str) -> str:
    """Return the text with line breaks and other runs of white space as single spaces."""
    return " ".join(text.split())


def fit(text: str, width: int) -> str:
    """Return the text in at most that many cells, with an ellipsis where it is cut."""
    if cell_len(text) <= width:
        return text
    return set_cell_size(text, width - 1) + "…" if width > 2 else set_cell_size(text, max(0, width))


def padded(text: str, width: int) -> str:
    """Return the text in exactly that many cells, with spaces after it or, where it is cut, an ellipsis."""
    text = fit(text, width)
    return text + " " * (width - cell_len(text))


def escaped(text: object) -> str:
    """Return the text with control characters, bidirectional overrides and the like as visible escapes such as `\\x1b`.

    For the functions that write to a terminal or a file; everything else keeps text as it is.
    """
    raw = str(text)
    if raw.isprintable():  # nearly always, and lists of runs call this thousands of times
        return raw
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in raw)


def ascii_only(encoding: str, environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether a terminal shows no more than ASCII: by its encoding, its locale, or because it is a bare one."""
    if not encoding.lower().startswith("utf") or environment.get("TERM") in ("dumb", "linux"):
        return True
    character_type = environment.get("LC_CTYPE", "").replace("C.UTF-8", "")  # Python's own in the C locale
    locale = environment.get("LC_ALL") or character_type or environment.get("LANG")
    return locale in ("C", "POSIX")


def to_ascii(text: str) -> str:
    """Return the text in ASCII: signs by their spelling, any other character as an escape such as `\\xfc`."""
    return text if text.isascii() else text.translate(ASCII_SIGNS).encode("ascii", "backslashreplace").decode()
