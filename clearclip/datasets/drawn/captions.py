"""What can be said of a scene: facts, and sentences that state some of them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from open_clip import OPENAI_IMAGENET_TEMPLATES

from clearclip.datasets.drawn.textures import STUFF
from clearclip.datasets.drawn.things import KINDS, THINGS
from clearclip.words import listed

FACTS = (*THINGS, *(f"{colour} {name}" for name, kind in KINDS.items() for colour in kind.colours), *STUFF)
OPENINGS = (
    "{}", "{}.", "a photo of {}.", "a picture of {}.", "an image showing {}.", "a drawing of {}", "there is {}.",
    "this is {}.", "you can see {} here.", "a small picture with {}.",
)  # fmt: skip
ON = ("{things} on {ground}", "{things} in front of {ground}", "{things} with {ground} behind", "{things} and {ground}")
BEFORE = (
    "{things} on {ground} in front of {wall}",
    "{things} on {ground} with {wall} behind",
    "{things}, {ground} and {wall}",
)


class Caption(NamedTuple):
    """A sentence and the facts that it states, each an entry of `FACTS`."""

    text: str
    facts: tuple[str, ...]


def article(noun: str) -> str:
    """The noun with its article.

    >>> article("red ball"), article("umbrella")
    ('a red ball', 'an umbrella')
    """
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def facts(things: Sequence[tuple[str, str]], stuff: Sequence[str]) -> tuple[str, ...]:
    """Everything that is true of a scene of these (name, colour) things, colour "" where there is none, and this stuff.

    >>> facts([("ball", "red")], ["sand"])
    ('ball', 'red ball', 'sand')
    """
    return tuple(fact for name, colour in things for fact in (name, f"{colour} {name}") if fact in FACTS) + tuple(stuff)


def caption(
    things: Sequence[tuple[str, str]], stuff: Sequence[str], rng: np.random.Generator, ground: float = 0.6,
    part: float = 0.0,
) -> Caption:  # fmt: skip
    """One sentence about a scene, in a random wording; it may leave out colours, the ground, now and then a thing.

    ``ground`` is the share of sentences about things that name the ground, too; ``part`` the share that name one
    to four of the things, all numbers equally likely; the others name all but now and then one.
    """
    told = [things[i] for i in rng.permutation(len(things))]
    if len(told) > 1 and rng.random() < 0.1:
        told.pop()
    if part and told and rng.random() < part:
        told = told[: rng.integers(1, min(len(told), 4) + 1)]
    if told and rng.random() < 0.08:
        told = []  # only the ground
    nouns = [f"{colour} {name}" if colour and rng.random() < 0.5 else name for name, colour in told]
    grounds = tuple(stuff) if not told or rng.random() < ground else ()
    stated = (*(name for name, _ in told), *(noun for noun in nouns if " " in noun), *grounds)

    phrase = listed([article(noun) for noun in nouns])
    if not told:
        phrase = " and ".join(grounds)
    elif grounds:
        pattern = str(rng.choice(ON if len(grounds) == 1 else BEFORE))
        phrase = pattern.format(things=phrase, ground=grounds[0], wall=grounds[-1])
    if rng.random() < 0.5:
        return Caption(str(rng.choice(OPENINGS)).format(phrase), stated)
    bare = phrase.split(" ", 1)[1] if told else phrase  # the prompt templates bring the first article themselves
    return Caption(OPENAI_IMAGENET_TEMPLATES[rng.integers(len(OPENAI_IMAGENET_TEMPLATES))](bare), stated)
