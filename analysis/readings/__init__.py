"""Datasets to sentences: what the numbers of a result say, in words that are chosen by the numbers."""
