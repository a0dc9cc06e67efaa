"""`python -m clearclip.evaluate`, the command whose name `clearclip.evaluate` is that of a function."""

if __name__ != "__main__":  # a module of this name would take the place of the function clearclip.evaluate
    raise ImportError("clearclip.evaluate is a function, and a command: python -m clearclip.evaluate")

from clearclip.cli import run
from clearclip.evaluation.__main__ import main

run(main)
