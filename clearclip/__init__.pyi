from . import datasets
from .errors import UserError
from .evaluation.run import evaluate
from .evaluation.table import table
from .methods.dense import DenseEncoder
from .methods.recipes import RECIPES, Recipe
from .models.backbone import Backbone
from .models.load import load
from .models.wrap import wrap
from .segmentation.segmenter import Segmenter
from .version import __version__

__all__ = [
    "RECIPES",
    "Backbone",
    "DenseEncoder",
    "Recipe",
    "Segmenter",
    "UserError",
    "__version__",
    "datasets",
    "evaluate",
    "load",
    "table",
    "wrap",
]
