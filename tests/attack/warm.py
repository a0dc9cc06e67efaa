"""What a process that will be forked imports before, so that a command starts in milliseconds and not in seconds."""

import pkgutil
from importlib import import_module

import matplotlib.pyplot  # noqa: F401
import open_clip  # noqa: F401
import pandas  # noqa: F401
import timm  # noqa: F401
import torch

import analysis
import clearclip
import figures

torch.set_num_threads(1)  # a thread pool does not survive a fork

for package in (analysis, clearclip, figures):
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if not module.name.endswith(".__main__") and module.name != "clearclip.evaluate":
            import_module(module.name)
