"""Scenes that are drawn on demand, with the exact class of every pixel."""
