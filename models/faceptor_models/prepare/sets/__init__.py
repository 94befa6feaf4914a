"""Reads each data set in a module of its own: `photos(folder)` yields its labelled faces from the owners' files, `SIDE_PX` is
the crop's side.
"""
