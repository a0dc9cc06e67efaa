"""Tokens on disk: X_res, X_attn and X_sum of chosen layers as safetensors shards, for those who train on them."""
