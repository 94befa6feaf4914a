"""Trains the published systems: settings in TOML, one resumable loop for all, on one process or on several by torchrun.

A recipe (`faceptor.py`, `dmlcsr.py`, `tcdcn.py`, ...) defines the batches, the losses and what happens between the steps;
`run.py` does the rest. `student.py` passes its settings to `student.train`, which has its own loop.
"""
