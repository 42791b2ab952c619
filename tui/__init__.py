"""The terminal app: configures, launches and monitors runs. It draws what the packages of `convnn` compute."""

import os

# Textual draws when the next of so many frames a second is due, 60 by default: a key then waits for 8 ms on average
os.environ.setdefault("TEXTUAL_FPS", "120")
