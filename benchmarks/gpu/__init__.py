"""The GPU path on a card: what is right, what fails, and how far from the card's limits it runs.

python -m benchmarks.gpu [--out DIR] [--minutes M] [--stages NAME,NAME] [--device cpu --small]
python -m benchmarks.gpu --count [--json]

It needs a checkout and torch, and installs nothing. The stages run in a child process, which is replaced when a stage
kills it or loses the card; `gpu.json` and `gpu.md` in DIR are written after every row.
"""
