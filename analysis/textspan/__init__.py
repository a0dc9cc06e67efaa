"""TextSpan: the texts of a pool along which the output of an attention head varies most."""
