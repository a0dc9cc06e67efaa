"""Small dataclasses that are written down as they are called, such as Aggregate(layer=9, cut=0.4), and read back."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, fields
from typing import Any

from clearclip.errors import UserError, closest


@dataclass(frozen=True, repr=False)
class Written:
    """A frozen dataclass, of repr=False, whose repr is short, without fields that have their default, and can be read back."""

    def __repr__(self) -> str:
        changed = (field for field in fields(self) if getattr(self, field.name) != _default(field))
        return f"{type(self).__name__}({', '.join(f'{f.name}={getattr(self, f.name)!r}' for f in changed)})"


def _default(field: Field[Any]) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


def read(text: str, known: Mapping[str, type]) -> Any:
    """What a repr of a few known classes says; nothing else is evaluated.

    Args:
        text: such as "Repair(rule=LocalOutliers(k=20))"; fields may be numbers, text, tuples and known classes.
        known: the classes by name.

    Raises:
        UserError: the text is no such call, or a class, field or value is unknown.

    >>> @dataclass(frozen=True, repr=False)
    ... class Aggregate(Written):
    ...     layer: int = 9
    ...     cut: float = 0.4
    >>> read("Aggregate(cut=.5)", {"Aggregate": Aggregate})
    Aggregate(cut=0.5)
    """
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except SyntaxError as error:
        raise UserError(f"{text!r} cannot be read; write it as in Aggregate(layer=9).") from error
    return _value(tree, text, known)


def _value(node: ast.expr, text: str, known: Mapping[str, type]) -> Any:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        kind = known.get(node.func.id)
        if kind is None:
            raise UserError(f"{text!r}: unknown {node.func.id}. Closest: {closest(node.func.id, list(known))}.")
        names = [field.name for field in fields(kind)]
        given = dict(zip(names, node.args, strict=False)) | {word.arg: word.value for word in node.keywords}
        if len(node.args) > len(names) or not given.keys() <= set(names):
            raise UserError(f"{text!r}: {node.func.id} has the fields {', '.join(names) or '(none)'}.")
        values = {str(name): _value(value, text, known) for name, value in given.items()}
        missing = [
            field.name for field in fields(kind) if field.default is MISSING and field.default_factory is MISSING
        ]
        if not set(missing) <= values.keys():
            raise UserError(f"{text!r}: {node.func.id} needs {', '.join(missing)}.")
        return kind(**values)
    if isinstance(node, ast.Tuple):
        return tuple(_value(part, text, known) for part in node.elts)
    try:
        return ast.literal_eval(node)
    except ValueError as error:
        raise UserError(f"{text!r}: {ast.unparse(node)} is not a number, a text or a known class.") from error
