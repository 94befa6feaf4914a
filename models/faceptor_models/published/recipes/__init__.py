"""Training of the systems: settings in TOML, one loop for all, resumable, on one process or on several by torchrun.

A recipe (`faceptor.py`, `dmlcsr.py`, `tcdcn.py`) says what is drawn, what it costs and what happens between the steps;
`run.py` does the rest. `student.py` hands its settings to `student.train`, which has a loop of its own.
"""
