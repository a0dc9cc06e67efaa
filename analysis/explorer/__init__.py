"""The explorer: one picture, one or two models, and what every block makes of it, in a browser or as one page of HTML."""
