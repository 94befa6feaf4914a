"""Makes the recognition tower: a network of its own on the aligned face, distilled from a published recogniser."""
