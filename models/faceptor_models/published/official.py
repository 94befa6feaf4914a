"""Lists what the official configurations contain and the files do not: task tables, class names, preprocessing."""

CELEBAMASK = "background neck face cloth rr lr rb lb re le nose imouth llip ulip hair glass hat earr neckl".split()
LAPA = "background face lb rb le re nose ulip imouth llip hair".split()
# DML-CSR's order of CelebAMask-HQ, which is the data set's own.
CELEBAMASK_OWN = "background skin nose eye_g l_eye r_eye l_brow r_brow l_ear r_ear mouth u_lip l_lip hair hat ear_r neck_l neck cloth".split()
EXPRESSIONS = "neutral happiness sadness surprise fear disgust anger".split()
ATTRIBUTES = (
    "5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose Black_Hair Blond_Hair Blurry Brown_Hair "
    "Bushy_Eyebrows Chubby Double_Chin Eyeglasses Goatee Gray_Hair Heavy_Makeup High_Cheekbones Male Mouth_Slightly_Open Mustache Narrow_Eyes "
    "No_Beard Oval_Face Pale_Skin Pointy_Nose Receding_Hairline Rosy_Cheeks Sideburns Smiling Straight_Hair Wavy_Hair Wearing_Earrings "
    "Wearing_Hat Wearing_Lipstick Wearing_Necklace Wearing_Necktie Young"
).split()

# Faceptor's tasks in the order of its configuration, with their number of queries.
TASKS = {
    "recog_ms1mv3": 2, "age_morph2": 101, "age_utkface": 101, "biattr_celeba": 40, "affect_affectnet": 7, "affect_rafdb": 7,
    "affect_ferplus": 7, "parsing_celebam": 19, "parsing_lapa": 11, "align_300w": 68, "align_cofw": 29, "align_wflw": 98, "align_aflw": 19,
}  # fmt: skip
# The tasks of Faceptor-Base and of Naive Faceptor.
BASE_TASKS = ("recog_ms1mv3", "age_morph2", "biattr_celeba", "affect_affectnet", "affect_rafdb", "parsing_celebam", "align_300w")
TYPES = ("recog", "age", "biattr", "affect", "parsing", "align")
DENSE = ("parsing", "align")
# Side of the inputs of the tasks that are not dense; the others take the resolution of the position table.
SMALL = 112

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# TCDCN's heads after the landmarks: labels in the order of the MTFL annotation.
TCDCN_HEADS = {
    "gender": ["male", "female"],
    "smile": ["smiling", "not_smiling"],
    "glasses": ["glasses", "no_glasses"],
    "pose": ["left_profile", "left", "frontal", "right", "right_profile"],
}


def type_of(task):
    """Returns the text before the first underscore."""
    return task.split("_", 1)[0]


def labels_of(task, count):
    """Returns the class names of a Faceptor task; numbered ones when the file has another count than the official data set."""
    known = {"parsing_celebam": CELEBAMASK, "parsing_lapa": LAPA}.get(task)
    known = known or {"affect": EXPRESSIONS, "biattr": ATTRIBUTES}.get(type_of(task), [])
    if type_of(task) in ("age", "align", "recog"):
        return []
    return list(known) if len(known) == count else [f"class{i}" for i in range(count)]
