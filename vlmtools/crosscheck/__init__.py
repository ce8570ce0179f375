"""Ranking models by hallucination without references."""
