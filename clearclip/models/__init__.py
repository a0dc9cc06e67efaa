"""Vision transformers of any library, seen through one view."""
