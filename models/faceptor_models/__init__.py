"""Trains, exports and measures the networks of Faceptor Edge.

`common` lies under the others. `student` is our own network, `published` the systems of published papers, `finder` the face
detector, and `prepare` turns data sets into crops with labels.
"""
