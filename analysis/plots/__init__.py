"""Datasets to figures."""
