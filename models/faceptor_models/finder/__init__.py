"""Trains a tiny anchor-free face finder: network, data, training, evaluation, export."""
