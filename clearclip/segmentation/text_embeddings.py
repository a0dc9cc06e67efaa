"""Text embeddings that were made elsewhere: read from a file or taken as an array, checked, and put in place of prompts."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from clearclip import outputs
from clearclip.errors import UserError, closest
from clearclip.models.backbone import Backbone
from clearclip.models.checkpoint import file_digest
from clearclip.segmentation.text import Queries, class_names

SUFFIXES = (".npy", ".npz", ".safetensors", ".pt", ".pth")
NAMES = ("names", "classes")  # what a file calls the names of its rows


@dataclass(frozen=True)
class TextEmbeddings:
    """One vector for each name, or for each class in an order that only the caller knows.

    Args:
        rows: L2-normalized, (N, E).
        names: of the rows; None if the file has none.
        source: the name of the file, or what else it is.
        sha256: of the file, or of the array's bytes.
        about: what else the file says, such as the architecture that made it.
    """

    rows: Tensor
    names: tuple[str, ...] | None
    source: str
    sha256: str
    about: Mapping[str, str]

    def provenance(self) -> dict[str, str]:
        """What a result says in place of prompts."""
        return {"text_embeddings": self.source, "text_embeddings_sha256": self.sha256}


def text_embeddings(source: Any) -> TextEmbeddings:
    """Text embeddings from whatever holds them.

    Args:
        source: a .npy, .npz, .safetensors or weights-only .pt file; an array or tensor (N, E); or a mapping of names to
            vectors (E,). In a file, names stand beside the matrix as `names`, or each vector has a name of its own.

    Raises:
        UserError: the file cannot be read without running code, or its rows are not finite vectors of floating-point
            numbers, or its names do not fit them.

    >>> embeddings = text_embeddings({"horse": torch.tensor([3.0, 4.0]), "grass": torch.tensor([0.0, 2.0])})
    >>> embeddings.names, embeddings.rows[0]
    (('horse', 'grass'), tensor([0.6000, 0.8000]))
    """
    if isinstance(source, TextEmbeddings):
        return source
    if isinstance(source, (str, Path)):
        path = Path(source)
        rows, names, about = _read(path)
        return _checked(rows, names, path.name, file_digest(path), about)
    rows, names = _matrix(source, "the text embeddings")
    return _checked(rows, names, "array")


def given_queries(model: Backbone, classes: str | Sequence[str | Sequence[str]], embeddings: TextEmbeddings) -> Queries:
    """Text embeddings of classes, as `clearclip.segmentation.text.embed` makes them with a text tower.

    Args:
        model: whose patches are compared with them; it needs no text tower.
        classes: as for `class_names`. Rows with names are found by name; others are taken in order, one for each name, or one for
            each class.
        embeddings: as `text_embeddings` gives them.

    Raises:
        UserError: the width is not that of the model's text space, a name is missing, or the number of rows does not fit.
    """
    named = class_names(classes)
    with torch.inference_mode(), model.autocast():
        token = torch.zeros(1, 1, model.width, device=model.device, dtype=model.dtype)
        width = model.project(token).shape[-1]
    if embeddings.rows.shape[1] != width:
        raise UserError(
            f"{embeddings.source} has vectors of length {embeddings.rows.shape[1]}, and the text space of {model.name} has "
            f"{width} dimensions: take text embeddings that were made with the text tower of the same model."
        )
    architecture = embeddings.about.get("architecture", model.architecture)
    if architecture != model.architecture:
        warnings.warn(
            f"{embeddings.source} was made with {architecture}, and {model.name} is {model.architecture}: results mean something "
            "only if both have one text space.",
            stacklevel=3,
        )
    if embeddings.about.get("random_weights") == "True" and not model.weights.random:
        warnings.warn(f"{embeddings.source} was made with RANDOM WEIGHTS.", stacklevel=3)
    names = [name for group in named for name in group]
    owner = [i for i, group in enumerate(named) for _ in group]
    if embeddings.names is not None:
        rows = embeddings.rows[_found(names, embeddings.names, embeddings.source)]
    elif len(embeddings.rows) in (len(names), len(named)):
        rows, owner = embeddings.rows, owner if len(embeddings.rows) == len(names) else list(range(len(named)))
    else:
        first = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
        raise UserError(
            f"{embeddings.source} has {len(embeddings.rows)} rows without names, and there are {len(named)} classes with "
            f"{len(names)} names: {first}. It needs one row for each, in this order, or names of its own."
        )
    return Queries(rows.to(model.device), torch.tensor(owner).to(model.device), tuple(group[0] for group in named))


def check_suffix(path: Path) -> None:
    """Refuse to write another kind of file; asked for before anything is computed.

    Raises:
        UserError: the path is that of another kind of file.
    """
    if path.suffix != ".safetensors":
        raise UserError(f"{path}: text embeddings are written as safetensors, so name a .safetensors file.")


def write_text_embeddings(path: Path, rows: Tensor, names: Sequence[str], about: Mapping[str, str]) -> None:
    """Write rows (N, E) with their names, and where they came from, as safetensors.

    Raises:
        UserError: the path is that of another kind of file, or cannot be written.
    """
    check_suffix(path)
    outputs.write(path, save({"embeddings": rows.cpu().contiguous()}, {"names": json.dumps(list(names)), **about}))


def _read(path: Path) -> tuple[Any, list[str] | None, dict[str, str]]:
    """Rows, names and what else a file says; never runs code from it."""
    if path.suffix not in SUFFIXES:
        raise UserError(f"{path}: text embeddings are read from {', '.join(SUFFIXES)} files.")
    if not path.is_file():
        raise UserError(f"{path}: no such file of text embeddings.")
    about: dict[str, str] = {}
    try:
        if path.suffix in (".npy", ".npz"):
            content = np.load(path, allow_pickle=False)
            content = content if isinstance(content, np.ndarray) else dict(content)
        elif path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                about = file.metadata() or {}
                content = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (it is not a dictionary)
            content |= {key: json.loads(about.pop(key)) for key in NAMES if key in about}
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # each library fails in its own way on a damaged file
        raise UserError(
            f"{path} cannot be read as text embeddings (plain arrays of numbers and text, no code): "
            f"{str(error).splitlines()[0] if str(error) else type(error).__name__}"
        ) from error
    return *_matrix(content, str(path)), about


def _matrix(content: Any, source: str) -> tuple[Any, list[str] | None]:
    """The rows and their names in what a file or a caller gives."""
    if not isinstance(content, Mapping):
        return content, None
    names = next((list(map(str, content[key])) for key in NAMES if _is_text(content.get(key))), None)
    arrays = {
        key: value for key, value in content.items() if isinstance(value, (np.ndarray, Tensor)) and not _is_text(value)
    }
    if len(arrays) == 1 and next(iter(arrays.values())).ndim == 2:
        return next(iter(arrays.values())), names
    if arrays and names is None and {array.shape for array in arrays.values()} == {(len(next(iter(arrays.values()))),)}:
        return torch.stack([torch.as_tensor(array) for array in arrays.values()]), [str(key) for key in arrays]
    keys = ", ".join(map(str, list(content)[:5])) or "nothing"
    raise UserError(
        f"{source} holds {keys}: text embeddings are one matrix (names, width) with its `names`, or one vector under each name."
    )


def _is_text(value: Any) -> bool:
    return (isinstance(value, np.ndarray) and value.dtype.kind == "U" and value.ndim == 1) or (
        isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value)
    )


def _checked(
    rows: Any, names: list[str] | None, source: str, sha256: str = "", about: Mapping[str, str] | None = None
) -> TextEmbeddings:
    """Text embeddings of length 1, after all that can be wrong with them was looked for."""
    if isinstance(rows, np.ndarray) and rows.dtype.kind == "f":
        rows = torch.from_numpy(rows.astype(np.float32))
    if not _is_matrix(rows):
        given = f"{tuple(rows.shape)} of {rows.dtype}" if hasattr(rows, "shape") else f"a {type(rows).__name__}"
        raise UserError(
            f"{source} holds {given}: text embeddings are a matrix (names, width) of floating-point numbers."
        )
    rows = rows.detach().cpu().float()
    if names is not None and len(names) != len(rows):
        raise UserError(f"{source} has {len(names)} names for {len(rows)} rows.")
    if names is not None and len(set(names)) != len(names):
        raise UserError(f"{source} has a name twice: {next(name for name in names if names.count(name) > 1)}.")
    for wrong, what in ((~rows.isfinite().all(1), "a value that is not finite"), (rows.norm(dim=1) == 0, "length 0")):
        if wrong.any():
            row = int(wrong.int().argmax())
            raise UserError(f"{source}: row {row}{f' ({names[row]})' if names else ''} has {what}.")
    sha256 = sha256 or hashlib.sha256(rows.contiguous().numpy()).hexdigest()
    return TextEmbeddings(
        F.normalize(rows, dim=-1), None if names is None else tuple(names), source, sha256, about or {}
    )


def _is_matrix(rows: Any) -> bool:
    return (
        isinstance(rows, Tensor)
        and rows.layout is torch.strided
        and not rows.is_meta
        and rows.ndim == 2
        and rows.is_floating_point()
        and rows.numel() > 0
    )


def _found(names: Sequence[str], known: Sequence[str], source: str) -> list[int]:
    """The rows of some names."""
    place = {name.strip(): row for row, name in enumerate(known)}
    for name in names:
        if name not in place:
            raise UserError(f"{source} has no vector for {name!r}. Closest: {closest(name, list(place))}.")
    return [place[name] for name in names]
