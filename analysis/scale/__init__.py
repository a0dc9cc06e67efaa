"""Streams of pictures in shards, too many for a list: where they come from, how they are measured, and what is kept of each."""
