"""The orders in which the classes of a report are listed; the command line names them without computing anything."""

from __future__ import annotations

from typing import Literal

ClassOrder = Literal["accuracy", "errors", "class", "images"]
CLASS_ORDERS: dict[ClassOrder, str] = {
    "accuracy": "least accurate first",
    "errors": "most errors first",
    "class": "by number",
    "images": "most images first",
}
