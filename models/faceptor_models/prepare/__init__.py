"""Public data sets and a user's own photos to aligned crops with labels: the faces folder that training reads."""
