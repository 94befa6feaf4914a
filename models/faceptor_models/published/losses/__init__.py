"""Implements the training losses of the published systems by the formulas of their papers."""
