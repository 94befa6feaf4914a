"""Trains, exports and measures our own network, the student of the published ones."""
