"""The parts that a token of the residual stream is the sum of: the embedding, and what each head, FFN and bias has added."""

from __future__ import annotations

from typing import Any, NamedTuple

KINDS = ("embedding", "head", "ffn", "bias", "intervention", "norm", "pool")


class Component(NamedTuple):
    """One part of the sum.

    Args:
        kind: of `KINDS`. "bias" is that of a block's output projection and FFN, "intervention" what an intervention has put
            into the stream itself, "norm" the constants of the final norm and the projection, "pool" what is not linear in
            the projection of a model with attention pooling.
        layer: counted from 1, 0 for what belongs to none.
        head: counted from 1, 0 for what is no head.

    >>> str(Component("head", 3, 1)), str(Component("ffn", 12)), str(Component("embedding"))
    ('layer 3 head 1', 'layer 12 FFN', 'embedding')
    """

    kind: str
    layer: int = 0
    head: int = 0

    def __str__(self) -> str:
        what = {"head": f"head {self.head}", "ffn": "FFN", "norm": "final norm", "bias": "biases"}.get(
            self.kind, self.kind
        )
        return f"layer {self.layer} {what}" if self.layer else what


def to_coords(components: list[Component]) -> dict[str, Any]:
    """The coordinates of a Dataset along `component`.

    >>> to_coords([Component("embedding"), Component("head", 3, 1)])["kind"]
    ('component', ['embedding', 'head'])
    """
    columns = {name: ("component", [getattr(part, name) for part in components]) for name in Component._fields}
    return {"component": [str(part) for part in components], **columns}
