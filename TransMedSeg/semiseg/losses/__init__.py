"""Losses see tensors only. Numerically delicate parts run in fp32 whatever the autocast."""
