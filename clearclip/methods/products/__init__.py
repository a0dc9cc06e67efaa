"""Affinities with parameters, one file each: `PARAMETRIC` holds their classes by name."""

from clearclip.methods.products.correlation import Correlation
from clearclip.methods.products.middle import Middle
from clearclip.methods.products.oracle import Oracle
from clearclip.methods.products.proxy import Proxy
from clearclip.methods.products.recursive import Recursive
from clearclip.methods.products.same_label import SameLabel
from clearclip.methods.products.similarity import Similarity

PARAMETRIC = {kind.__name__: kind for kind in (Correlation, Middle, Oracle, Proxy, Recursive, SameLabel, Similarity)}
