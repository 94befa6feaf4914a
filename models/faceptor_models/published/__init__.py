"""Implements the published systems that this project builds on: Faceptor, Naive Faceptor, MCF, TCDCN and DML-CSR.

Each is our own PyTorch code with the parameter names of the official files, configurable in every size. `checkpoint` and
`recognise` read an official file, `importing` turns it into an export folder, `losses` holds the training losses, and `recipes`
the trainings.
"""
