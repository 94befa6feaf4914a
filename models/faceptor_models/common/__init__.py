"""Holds what the other packages share."""
