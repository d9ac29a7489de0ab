"""Tensor in, logits out; torch only."""
