"""Architectures only: tensors in, tensors out."""
