"""Turns public data sets and a user's own photos into aligned crops with labels: the faces folder that training reads."""
