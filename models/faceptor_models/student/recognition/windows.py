"""Samples the square window about the ArcFace crop from an aligned crop of the research photos."""

import cv2

from faceptor_models.common.geometry import ARCFACE_112, TEMPLATE, similarity

from .sizes import INPUT, MARGIN, WINDOW


def to_frame(side):
    """Returns the 2x3 map from the window's pixels to those of an aligned crop of `side` pixels."""
    return similarity(ARCFACE_112 + MARGIN, TEMPLATE * side)


def window(rgb):
    """Samples the window uint8 [WINDOW, WINDOW, 3] of an aligned crop [side, side, 3]."""
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(rgb, to_frame(rgb.shape[0]), (WINDOW, WINDOW), flags=how, borderMode=cv2.BORDER_REPLICATE)


def middle(faces):
    """Returns the ArcFace crops [.., INPUT, INPUT, 3] of windows."""
    return faces[..., MARGIN : MARGIN + INPUT, MARGIN : MARGIN + INPUT, :]
