"""Whether a Dataset is what its format says: dimensions, labels, variables, values and attributes, in this order."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import xarray as xr

from clearclip.errors import UserError
from clearclip.runs.formats import FORMATS, OPTIONAL, VERSION, Attribute, Format, Values, Variable

ROUNDING = 1e-3  # by which a value may lie beyond its bounds


def stamp(dataset: xr.Dataset) -> dict[str, str]:
    """The attribute `format` of a Dataset that is written; nothing if it is of none of `FORMATS`.

    >>> stamp(xr.Dataset({"sum": ("recipe", [1.0])}))
    {}
    """
    kind = _marked(dataset)
    whole = kind and set(FORMATS[kind].needed) <= set(dataset.dims)
    return {"format": f"clearclip {kind} {VERSION}"} if whole else {}


def kind_of(dataset: xr.Dataset, where: object = "this Dataset") -> str:
    """Which of `FORMATS` a Dataset is of: what its attribute `format` says, or what older ones look like.

    Args:
        where: the file, for messages.

    Returns: a key of `FORMATS`, or "".
    Raises: `UserError` for an unknown kind, or a newer version.

    >>> kind_of(xr.Dataset(attrs={"format": "clearclip sweep 1"}))
    'sweep'
    """
    if "format" not in dataset.attrs:
        return _marked(dataset)
    text = dataset.attrs["format"]
    program, _, rest = str(text).partition(" ")
    kind, _, version = rest.rpartition(" ")
    if program != "clearclip" or not version.isascii() or not version.isdigit():
        raise UserError(f"{where} has the format {text!r}: 'clearclip', a kind and a version are expected.")
    if int(version) > VERSION:
        raise UserError(
            f"{where} has the format {text!r}, and this release reads version {VERSION}: upgrade clearclip-analysis."
        )
    if kind not in FORMATS:
        raise UserError(f"{where} has the unknown format {text!r}; known are {', '.join(FORMATS)}.")
    return kind


def check(dataset: xr.Dataset, kind: str, where: object = "this Dataset", whole: bool = True) -> None:
    """Refuse a Dataset that is not what a format says.

    Args:
        kind: of `FORMATS`.
        where: the file, for messages.
        whole: whether everything that is needed must be there; otherwise only what is there is checked.

    Raises: `UserError` that names the first thing that is missing or wrong.
    """
    wanted, given = FORMATS[kind], kind_of(dataset, where)
    if given and given != kind:
        raise UserError(f"{where} holds {FORMATS[given].title}, not {wanted.title}, which {wanted.command} writes.")
    complaint = next(_complaints(dataset, wanted, whole), "")
    if complaint:
        raise UserError(f"{where} does not hold {wanted.title}: {complaint}. Write it anew with {wanted.command}.")


def _marked(dataset: xr.Dataset) -> str:
    """The kind whose mark a Dataset has, or nothing."""
    return next((name for name, kind in FORMATS.items() if kind.mark[1] in getattr(dataset, kind.mark[0])), "")


def _complaints(dataset: xr.Dataset, wanted: Format, whole: bool) -> Iterator[str]:
    """What is wrong with a Dataset, most important first; each only if what comes before it is right."""
    dims, data = list(map(str, dataset.dims)), list(map(str, dataset.data_vars))
    lacking = [dim for dim in wanted.needed if dim not in dims and whole]
    if lacking:
        yield f"it lacks the dimension {', '.join(lacking)}; it has {', '.join(dims) or 'none'}"
    yield from (f"its dimension {dim} is empty" for dim in wanted.needed if not dataset.sizes.get(dim, 1))
    for dim, values in wanted.labels.items():
        if dim in dims and dim not in dataset.coords:
            yield f"its dimension {dim} has no labels"
        elif dim in dims:
            yield from _labels(dataset[dim], values, whole)
    for name, variable in {**wanted.variables, **wanted.about}.items():
        if name in dataset.variables:
            yield from _variable(dataset, name, variable)
            if name in wanted.variables and name not in data:
                yield f"{name} is a coordinate and not a variable"
        elif variable.needed and whole:
            yield f"it lacks {name}; it has {', '.join(data) or 'no variable'}"
    for name in data if wanted.others else ():
        if name not in wanted.variables:
            yield from _own(dataset[name], wanted.others)
    for name, kind in {**OPTIONAL, **wanted.attributes}.items():
        if name in dataset.attrs:
            yield from _attribute(name, dataset.attrs[name], kind)
        elif name in wanted.attributes and whole:
            yield f"it lacks the attribute {name}"
    if {"token", "rows", "columns", "prefix_tokens"} <= set(dataset.variables):
        tokens = int((dataset.prefix_tokens + dataset["rows"] * dataset["columns"]).max())
        if tokens > dataset.sizes["token"]:
            yield f"rows and columns make {tokens} tokens, and it has {dataset.sizes['token']}"


def _labels(labels: xr.DataArray, wanted: Values, whole: bool) -> Iterator[str]:
    yield from _values(str(labels.name), labels.values, wanted)
    if len(np.unique(labels.values)) < labels.size:
        yield f"{labels.name} has the same label twice"
    if wanted.ascending and (np.diff(labels.values) <= 0).any():
        yield f"{labels.name} does not ascend"
    unknown = sorted(set(labels.values.tolist()) - set(wanted.names)) if wanted.names else []
    if unknown:
        yield f"{labels.name} has {', '.join(unknown)}; allowed are {', '.join(wanted.names)}"
    absent = sorted(set(wanted.names) - set(labels.values.tolist())) if wanted.complete and whole else []
    if absent:
        yield f"{labels.name} lacks {', '.join(absent)}"


def _variable(dataset: xr.Dataset, name: str, wanted: Variable) -> Iterator[str]:
    variable = dataset[name]
    if variable.dims != wanted.dims:
        yield f"{name} has the dimensions {_listed(variable.dims)}, not {_listed(wanted.dims)}"
    beyond = {int(value) for attr in wanted.attrs if isinstance(value := variable.attrs.get(attr), (int, np.integer))}
    yield from (f"{name} lacks the attribute {attr}, a number" for attr in wanted.attrs if not beyond)
    yield from _values(name, variable.values, wanted.values)
    if wanted.values.index:
        size = dataset.sizes.get(wanted.values.index, 0)
        wrong = set(np.unique(variable.values[variable.values >= size]).tolist()) - beyond
        if wrong:
            yield f"{name} has {min(wrong)}, and {wanted.values.index} counts from 0 to {size - 1}"
    if wanted.filled:
        inner = [dim for dim in variable.dims if dim not in ("model", "dataset", "image")]
        if not variable.notnull().any(inner).all():
            yield f"{name} has no value for some model, data set or picture"
    if wanted.units and name in dataset.data_vars:
        yield from _described(variable)


def _own(variable: xr.DataArray, allowed: tuple[tuple[str, ...], ...]) -> Iterator[str]:
    """A variable that is not in the table, such as a statistic of the user's own."""
    if variable.dims not in allowed:
        yield f"{variable.name} has the dimensions {_listed(variable.dims)}; allowed are {' or '.join(map(_listed, allowed))}"
    yield from _values(str(variable.name), variable.values, Values("fiub", missing=True))
    yield from _described(variable)


def _described(variable: xr.DataArray) -> Iterator[str]:
    for attr in ("long_name", "units"):
        if not isinstance(variable.attrs.get(attr), str):
            yield f"{variable.name} lacks the attribute {attr}, a text"


def _values(name: str, values: np.ndarray, wanted: Values) -> Iterator[str]:
    if wanted.kinds == "U":
        if not all(isinstance(value, str) for value in values.ravel().tolist()):
            yield f"{name} has values that are not text"
        return
    if values.dtype.kind not in wanted.kinds:
        yield f"{name} has values of type {values.dtype}"
    elif values.dtype.kind == "f" and np.isinf(values).any():
        yield f"{name} has infinite values"
    elif not wanted.missing and values.dtype.kind == "f" and np.isnan(values).any():
        yield f"{name} has values that are NaN"
    elif ((values < wanted.low - ROUNDING) | (values > wanted.high + ROUNDING)).any():
        yield f"{name} has values from {np.nanmin(values):g} to {np.nanmax(values):g}; allowed is {wanted.words}"


def _attribute(name: str, value: Any, wanted: Attribute) -> Iterator[str]:
    if wanted == "count":
        if not isinstance(value, (int, np.integer)) or value < 0:
            yield f"its attribute {name} is no count"
        return
    if not isinstance(value, str):
        yield f"its attribute {name} is no text"
    elif wanted != "text":
        try:
            content = json.loads(value)
        except (ValueError, RecursionError):
            content = None
        items = content if isinstance(content, list) else []
        if not isinstance(content, {"list": list, "object": dict}[wanted]) or any(
            not isinstance(x, str) for x in items
        ):
            yield f"its attribute {name} is not a JSON {wanted}"


def _listed(dims: tuple[Any, ...]) -> str:
    return f"({', '.join(map(str, dims))})"
