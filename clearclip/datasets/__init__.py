"""Pictures with labels: the benchmarks of the paper, a folder of one's own, and the scenes drawn on demand."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)  # the public names are in __init__.pyi
