"""Interventions as they are written on a command line: layer=9,channel=4,162,474."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from clearclip.errors import UserError
from clearclip.interventions.change import Change
from clearclip.interventions.channels import Channels
from clearclip.interventions.clamp import Clamp
from clearclip.interventions.heads import Heads
from clearclip.interventions.neurons import Neurons
from clearclip.interventions.registers import Registers
from clearclip.written import read

CHANGES: dict[str, type[Change]] = {kind.__name__: kind for kind in (Channels, Heads, Neurons, Clamp, Registers)}
SUBJECTS: dict[str, Callable[..., Change]] = {"channel": Channels, "head": Heads, "neuron": Neurons}
EXAMPLE = "as in layer=9,channel=4,162 or layer=11,head=3 or layer=9,clamp=3"


def parse(text: str) -> list[Change]:
    """The interventions of a text, one for each layer that it names.

    Args:
        text: layer=… with one of channel=…, head=…, neuron=… or clamp=…; channels may have site=X_attn or X_sum, and all three
            to=mean. Numbers are given with commas; layers and heads count from 1, channels and neurons from 0.

    Raises:
        UserError: the text says something else.

    >>> parse("layer=9,channel=4,162,474"), parse("layer=5,6,head=1,to=mean")
    ([Channels(layer=9, channels=(4, 162, 474))], [Heads(layer=5, heads=(1,), to='mean'), Heads(layer=6, heads=(1,), to='mean')])
    """
    words = dict(_words(text))
    layers = _numbers(text, words.pop("layer", ""))
    clamp = words.pop("clamp", None)
    if clamp is not None and not words:
        try:
            return [Clamp(layer, float(clamp)) for layer in layers]
        except ValueError as error:
            raise UserError(f"{text!r}: clamp is a number, as in layer=9,clamp=3.") from error
    subjects = [word for word in words if word in SUBJECTS]
    allowed = {"site", "to"} if subjects == ["channel"] else {"to"}
    if clamp is not None or len(subjects) != 1 or not words.keys() - subjects <= allowed:
        raise UserError(f"{text!r} is no intervention: one of channel, head, neuron and clamp of a layer, {EXAMPLE}.")
    which = _numbers(text, words.pop(subjects[0]))
    return [SUBJECTS[subjects[0]](layer, tuple(which), **words) for layer in layers]


def _words(text: str) -> list[tuple[str, str]]:
    """Words and their values, from word=value,value,word=value."""
    parts = re.split(r",(?=[a-z]+=)", text.replace(" ", ""))
    pairs = [part.partition("=") for part in parts]
    words = [word for word, _, _ in pairs]
    if not all(value for _, _, value in pairs) or len(set(words)) != len(words):
        raise UserError(f"{text!r} cannot be read: each word once, with its values behind an equals sign, {EXAMPLE}.")
    return [(word, value) for word, _, value in pairs]


def _numbers(text: str, value: str) -> list[int]:
    try:
        return [int(number) for number in value.split(",")]
    except ValueError as error:
        raise UserError(f"{text!r}: {value!r} is not a list of whole numbers, {EXAMPLE}.") from error


def read_change(text: str) -> Change:
    """The intervention that a repr says, such as "Heads(layer=11, heads=(3,))"."""
    change: Any = read(text, CHANGES)
    return change
