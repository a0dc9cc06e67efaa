"""Vision transformers, looked into without touching them, and the segmentation methods built on what is seen."""

import lazy_loader

# The public names are in __init__.pyi. Each is imported when it is first used, so that every --help answers at once.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
