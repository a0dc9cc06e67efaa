"""What happens to a model without some channels, heads, neurons or outlier tokens: changes that are gone after the pass."""

from clearclip.interventions.change import Change
from clearclip.interventions.channels import Channels
from clearclip.interventions.clamp import Clamp
from clearclip.interventions.heads import Heads
from clearclip.interventions.neurons import Neurons
from clearclip.interventions.register_neurons import find_register_neurons
from clearclip.interventions.registers import Registers
from clearclip.interventions.view import intervene

__all__ = ["Change", "Channels", "Clamp", "Heads", "Neurons", "Registers", "find_register_neurons", "intervene"]
