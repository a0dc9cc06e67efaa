"""A change inside the model, for this recipe only."""

from __future__ import annotations

from dataclasses import dataclass

from clearclip.interventions.change import Change
from clearclip.methods.stages.stage import Stage
from clearclip.models.backbone import Backbone


@dataclass(frozen=True, repr=False)
class Intervene(Stage):
    """The recipe looks at a model in which an intervention acts; recipes beside it do not.

    Args:
        change: of `clearclip.interventions`, such as Heads(layer=11, heads=(3,)).
    """

    change: Change

    def check(self, model: Backbone, guide: Backbone | None) -> None:
        """Refuse what the model does not have."""
        self.change.check(model)
