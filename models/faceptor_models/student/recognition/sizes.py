"""Names the sizes that packing, training and export of the tower share."""

# The ArcFace crop is the middle INPUT pixels of the window; the rest is for shifted and turned views.
INPUT, WINDOW = 112, 128
MARGIN = (WINDOW - INPUT) // 2
# Length of the embedding.
NUMBERS = 256
