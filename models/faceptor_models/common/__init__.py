"""Holds what the other subpackages share; it imports none of them."""
