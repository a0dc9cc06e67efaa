"""For the API pages: shows the examples of docstrings as code."""

import re
from typing import Any

import griffe

EXAMPLE = re.compile(r"^>>> .*(?:\n(?!\n).+)*", re.MULTILINE)  # from a prompt to the next empty line


class Doctests(griffe.Extension):
    """Puts every doctest of a docstring into a block of code."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called for each module, class, function and attribute."""
        if obj.docstring:
            obj.docstring.value = EXAMPLE.sub(lambda example: f"\n```python\n{example[0]}\n```", obj.docstring.value)
