"""Attention and other building blocks, one per file; nothing here imports vlmtools."""
