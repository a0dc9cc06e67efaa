"""What --ablate and --registers make of models: each one as it is, and the same one with interventions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from torch import Tensor

from clearclip.datasets.drawn.scenes import Scenes
from clearclip.errors import UserError
from clearclip.interventions.change import Change
from clearclip.interventions.register_neurons import find_register_neurons
from clearclip.interventions.registers import Registers
from clearclip.interventions.text import parse
from clearclip.interventions.view import intervene
from clearclip.models.backbone import Backbone
from clearclip.models.names import SHIPPED
from clearclip.pictures import photographs

SCENES = 16  # drawn ones, for the small models that know nothing else


def with_interventions(
    loaders: Sequence[Callable[[], Backbone]], ablate: Sequence[str], registers: int
) -> list[Callable[[], Backbone]]:
    """Two loaders for each: the model as it is, and with the interventions.

    Args:
        loaders: one for each model.
        ablate: interventions as `clearclip.interventions.text.parse` reads them, acting together.
        registers: how many test-time registers.

    Raises:
        UserError: a text says no intervention. What a model lacks is said when it is loaded.
    """
    if registers < 0:
        raise UserError(f"registers {registers}: 0 or more.")
    changes = [change for text in ablate for change in parse(text)]
    words = [text.replace(" ", "") for text in ablate] + ([f"registers={registers}"] if registers else [])
    label = " ".join(words)

    def changed(load: Callable[[], Backbone]) -> Callable[[], Backbone]:
        def loader() -> Backbone:
            model = load()
            own: list[Change] = list(changes)
            if registers:
                own.append(Registers(registers, find_register_neurons(model, _pictures(model))))
            return intervene(model, own, f"{model.name} {label}")

        return loader

    return [loader for load in loaders for loader in (load, changed(load))]


def _pictures(model: Backbone) -> Iterator[Tensor]:
    """The package's own pictures as the model takes them: drawn scenes for the small models, photographs for all others."""
    transform = model.transform()
    if model.architecture.removeprefix("zoo:") in SHIPPED:
        scenes = Scenes("test", SCENES, model.image_size)
        yield from (transform(scenes[i].image).to(model.device) for i in range(SCENES))
    else:
        yield from (transform(picture).to(model.device) for picture in photographs())
