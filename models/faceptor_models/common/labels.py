"""Names the classes of the tasks in the order of the data sets, with their mirror tables."""

EXPRESSIONS = ["neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt"]
PARSING = ("background skin nose eye_g l_eye r_eye l_brow r_brow l_ear r_ear mouth u_lip l_lip hair hat ear_r neck_l neck cloth").split()
ATTRIBUTES = (
    "5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose Black_Hair Blond_Hair Blurry "
    "Brown_Hair Bushy_Eyebrows Chubby Double_Chin Eyeglasses Goatee Gray_Hair Heavy_Makeup High_Cheekbones Male "
    "Mouth_Slightly_Open Mustache Narrow_Eyes No_Beard Oval_Face Pale_Skin Pointy_Nose Receding_Hairline Rosy_Cheeks "
    "Sideburns Smiling Straight_Hair Wavy_Hair Wearing_Earrings Wearing_Hat Wearing_Lipstick Wearing_Necklace "
    "Wearing_Necktie Young"
).split()
UNKNOWN = 255  # of a label map: outside the photo, or without a label
MALE = ATTRIBUTES.index("Male")

# Attributes that name a thing which the parsing has a class for: its column, its class, and the share of the network's view
# that it fills at least (glasses, hats) or about (earrings, necklaces: mostly partly hidden).
HINTS = {
    "Eyeglasses": (ATTRIBUTES.index("Eyeglasses"), PARSING.index("eye_g"), 0.04),
    "Wearing_Hat": (ATTRIBUTES.index("Wearing_Hat"), PARSING.index("hat"), 0.08),
    "Wearing_Earrings": (ATTRIBUTES.index("Wearing_Earrings"), PARSING.index("ear_r"), 0.003),
    "Wearing_Necklace": (ATTRIBUTES.index("Wearing_Necklace"), PARSING.index("neck_l"), 0.0015),
}

# Index of the mirrored point in the 68-point iBUG order.
LANDMARK_FLIP = (
    list(range(16, -1, -1))
    + list(range(26, 16, -1))
    + [27, 28, 29, 30, 35, 34, 33, 32, 31]
    + [45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40]
    + [54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65]
)
PARSING_FLIP = [0, 1, 2, 3, 5, 4, 7, 6, 9, 8, 10, 11, 12, 13, 14, 15, 16, 17, 18]
