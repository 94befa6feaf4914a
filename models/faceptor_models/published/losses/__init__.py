"""The training losses of the published systems, by the formulas of SPEC A6, C2, D2 and E6."""
