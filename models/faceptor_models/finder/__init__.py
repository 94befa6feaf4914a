"""Trains a tiny anchor-free face detector: network, data, training, evaluation, export."""
