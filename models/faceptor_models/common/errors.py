"""Holds the error that a command reports to its user."""


class Refused(Exception):
    """Reports a file, option or array that cannot be used; the message gives the reason."""
