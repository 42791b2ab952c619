"""The app: sets up, launches and watches runs in a terminal. What it shows of a run, `convnn` found out."""

import os

# Textual draws when the next of so many frames a second is due, 60 by default: a key then waits for 8 ms on average
os.environ.setdefault("TEXTUAL_FPS", "120")
