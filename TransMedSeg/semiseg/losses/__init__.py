"""Losses: plain functions of tensors, one file an idea."""
