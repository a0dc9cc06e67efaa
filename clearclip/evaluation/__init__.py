"""Data sets and recipes to intersection over union."""
