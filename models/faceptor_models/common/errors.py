"""Holds the error that a command reports to its user."""


class Refused(Exception):
    """A checkpoint, option or array that cannot be used; the message says why."""
