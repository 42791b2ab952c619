"""Signatures of what this person wrote into a folder of runs; the key lies in the person's home.

A folder of runs may come from a stranger: what in it names places elsewhere counts only with a signature.
"""

from __future__ import annotations

import hmac
import os
import secrets
from pathlib import Path

from convnn.files import expand_home, read_regular, write_atomic

KEY = "trash.key"
KEY_BYTES = 5000  # at most


def sign(message: bytes) -> str | None:
    """Return the signature of a message; None for a user without a home to keep the key in."""
    try:
        folder = Path(os.environ.get("XDG_STATE_HOME") or expand_home("~/.local/state")) / "convnn"
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / KEY).exists():
            write_atomic(folder / KEY, secrets.token_hex(32))
        key = read_regular(folder / KEY, KEY_BYTES)
    except (OSError, ValueError):
        return None
    return hmac.new(key, message, "sha256").hexdigest()


def is_signed(message: bytes, signature: str) -> bool:
    """Return whether this person signed the message."""
    expected = sign(message)
    return expected is not None and hmac.compare_digest(expected.encode(), signature.encode("utf-8", "replace"))
