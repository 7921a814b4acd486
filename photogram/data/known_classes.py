"""Names and colours of the classes of public data sets, in the order of their published ids."""

from __future__ import annotations

import colorsys

from photogram.scene import SceneClass

Color = tuple[int, int, int]

CITYSCAPES: tuple[tuple[str, Color], ...] = (
    ("unlabeled", (0, 0, 0)),
    ("ego vehicle", (0, 0, 0)),
    ("rectification border", (0, 0, 0)),
    ("out of roi", (0, 0, 0)),
    ("static", (0, 0, 0)),
    ("dynamic", (111, 74, 0)),
    ("ground", (81, 0, 81)),
    ("road", (128, 64, 128)),
    ("sidewalk", (244, 35, 232)),
    ("parking", (250, 170, 160)),
    ("rail track", (230, 150, 140)),
    ("building", (70, 70, 70)),
    ("wall", (102, 102, 156)),
    ("fence", (190, 153, 153)),
    ("guard rail", (180, 165, 180)),
    ("bridge", (150, 100, 100)),
    ("tunnel", (150, 120, 90)),
    ("pole", (153, 153, 153)),
    ("polegroup", (153, 153, 153)),
    ("traffic light", (250, 170, 30)),
    ("traffic sign", (220, 220, 0)),
    ("vegetation", (107, 142, 35)),
    ("terrain", (152, 251, 152)),
    ("sky", (70, 130, 180)),
    ("person", (220, 20, 60)),
    ("rider", (255, 0, 0)),
    ("car", (0, 0, 142)),
    ("truck", (0, 0, 70)),
    ("bus", (0, 60, 100)),
    ("caravan", (0, 0, 90)),
    ("trailer", (0, 0, 110)),
    ("train", (0, 80, 100)),
    ("motorcycle", (0, 0, 230)),
    ("bicycle", (119, 11, 32)),
    ("license plate", (0, 0, 142)),
)
"""The labels of Cityscapes by official id 0..33; the licence plate, officially -1, is 34 as in pix2pixHD."""

CITYSCAPES_TRAIN_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""The official ids of the 19 classes that are evaluated, in the order of their trainIds."""


def cityscapes_19() -> tuple[SceneClass, ...]:
    """The 19 evaluated classes and `unlabelled`: the channel order of CRN (specification of CRN, section
    5.3)."""
    classes = [SceneClass(*CITYSCAPES[i]) for i in CITYSCAPES_TRAIN_IDS]
    return (*classes, SceneClass("unlabelled", (0, 0, 0), void=True))


def cityscapes_35() -> tuple[SceneClass, ...]:
    """Ids 0..33 and the licence plate, 34; id 0, `unlabeled`, is void."""
    return tuple(SceneClass(name, color, void=i == 0) for i, (name, color) in enumerate(CITYSCAPES))


CAMVID: tuple[tuple[str, Color, int], ...] = (
    ("Animal", (64, 128, 64), 9),
    ("Archway", (192, 0, 128), 1),
    ("Bicyclist", (0, 128, 192), 10),
    ("Bridge", (0, 128, 64), 1),
    ("Building", (128, 0, 0), 1),
    ("Car", (64, 0, 128), 8),
    ("CartLuggagePram", (64, 0, 192), 9),
    ("Child", (192, 128, 64), 9),
    ("Column_Pole", (192, 192, 128), 2),
    ("Fence", (64, 64, 128), 7),
    ("LaneMkgsDriv", (128, 0, 192), 3),
    ("LaneMkgsNonDriv", (192, 0, 64), 3),
    ("Misc_Text", (128, 128, 64), 6),
    ("MotorcycleScooter", (192, 0, 192), 10),
    ("OtherMoving", (128, 64, 64), 8),
    ("ParkingBlock", (64, 192, 128), 4),
    ("Pedestrian", (64, 64, 0), 9),
    ("Road", (128, 64, 128), 3),
    ("RoadShoulder", (128, 128, 192), 4),
    ("Sidewalk", (0, 0, 192), 4),
    ("SignSymbol", (192, 128, 128), 6),
    ("Sky", (128, 128, 128), 0),
    ("SUVPickupTruck", (64, 128, 192), 8),
    ("TrafficCone", (0, 0, 64), 2),
    ("TrafficLight", (0, 64, 64), 6),
    ("Train", (192, 64, 128), 8),
    ("Tree", (128, 128, 0), 5),
    ("Truck_Bus", (192, 128, 192), 8),
    ("Tunnel", (64, 0, 64), 1),
    ("VegetationMisc", (192, 192, 0), 5),
    ("Void", (0, 0, 0), 11),
    ("Wall", (64, 192, 0), 1),
)
"""The 32 classes of CamVid (Brostow et al. 2008) in the order of its list of colours, each with its class of
SegNet's 11."""

CAMVID_11: tuple[tuple[str, Color], ...] = (
    ("sky", (128, 128, 128)),
    ("building", (128, 0, 0)),
    ("pole", (192, 192, 128)),
    ("road", (128, 64, 128)),
    ("pavement", (60, 40, 222)),
    ("tree", (128, 128, 0)),
    ("sign symbol", (192, 128, 128)),
    ("fence", (64, 64, 128)),
    ("car", (64, 0, 128)),
    ("pedestrian", (64, 64, 0)),
    ("bicyclist", (0, 128, 192)),
)


def camvid_11() -> tuple[SceneClass, ...]:
    """SegNet's 11 classes (Badrinarayanan et al. 2015) by their published indices, and `unlabelled`, 11."""
    return (*(SceneClass(*c) for c in CAMVID_11), SceneClass("unlabelled", (0, 0, 0), void=True))


def camvid_32() -> tuple[SceneClass, ...]:
    """The 32 classes of the original; `Void` is void."""
    return tuple(SceneClass(name, color, void=name == "Void") for name, color, _ in CAMVID)


COCO_STUFF = (
    "person",
    "bicycle",
    "car",
    "motorcycle",
    "airplane",
    "bus",
    "train",
    "truck",
    "boat",
    "traffic light",
    "fire hydrant",
    "street sign",
    "stop sign",
    "parking meter",
    "bench",
    "bird",
    "cat",
    "dog",
    "horse",
    "sheep",
    "cow",
    "elephant",
    "bear",
    "zebra",
    "giraffe",
    "hat",
    "backpack",
    "umbrella",
    "shoe",
    "eye glasses",
    "handbag",
    "tie",
    "suitcase",
    "frisbee",
    "skis",
    "snowboard",
    "sports ball",
    "kite",
    "baseball bat",
    "baseball glove",
    "skateboard",
    "surfboard",
    "tennis racket",
    "bottle",
    "plate",
    "wine glass",
    "cup",
    "fork",
    "knife",
    "spoon",
    "bowl",
    "banana",
    "apple",
    "sandwich",
    "orange",
    "broccoli",
    "carrot",
    "hot dog",
    "pizza",
    "donut",
    "cake",
    "chair",
    "couch",
    "potted plant",
    "bed",
    "mirror",
    "dining table",
    "window",
    "desk",
    "toilet",
    "door",
    "tv",
    "laptop",
    "mouse",
    "remote",
    "keyboard",
    "cell phone",
    "microwave",
    "oven",
    "toaster",
    "sink",
    "refrigerator",
    "blender",
    "book",
    "clock",
    "vase",
    "scissors",
    "teddy bear",
    "hair drier",
    "toothbrush",
    "hair brush",
    "banner",
    "blanket",
    "branch",
    "bridge",
    "building-other",
    "bush",
    "cabinet",
    "cage",
    "cardboard",
    "carpet",
    "ceiling-other",
    "ceiling-tile",
    "cloth",
    "clothes",
    "clouds",
    "counter",
    "cupboard",
    "curtain",
    "desk-stuff",
    "dirt",
    "door-stuff",
    "fence",
    "floor-marble",
    "floor-other",
    "floor-stone",
    "floor-tile",
    "floor-wood",
    "flower",
    "fog",
    "food-other",
    "fruit",
    "furniture-other",
    "grass",
    "gravel",
    "ground-other",
    "hill",
    "house",
    "leaves",
    "light",
    "mat",
    "metal",
    "mirror-stuff",
    "moss",
    "mountain",
    "mud",
    "napkin",
    "net",
    "paper",
    "pavement",
    "pillow",
    "plant-other",
    "plastic",
    "platform",
    "playingfield",
    "railing",
    "railroad",
    "river",
    "road",
    "rock",
    "roof",
    "rug",
    "salad",
    "sand",
    "sea",
    "shelf",
    "sky-other",
    "skyscraper",
    "snow",
    "solid-other",
    "stairs",
    "stone",
    "straw",
    "structural-other",
    "table",
    "tent",
    "textile-other",
    "towel",
    "tree",
    "vegetable",
    "wall-brick",
    "wall-concrete",
    "wall-other",
    "wall-panel",
    "wall-stone",
    "wall-tile",
    "wall-wood",
    "water-other",
    "waterdrops",
    "window-blind",
    "window-other",
    "wood",
)
"""The names of COCO-Stuff (Caesar et al. 2018): label k of its pixel maps is COCO id k + 1; 0..90 things,
91..181 stuff."""

COCO_THINGS = 91
"""Labels below this are things: objects that can be counted. Eleven of them were never drawn."""


def coco_stuff() -> tuple[SceneClass, ...]:
    """The 182 classes of COCO-Stuff by label, and `unlabelled`, 182 (255 in the files)."""
    return (
        *(SceneClass(name, spread_color(i)) for i, name in enumerate(COCO_STUFF)),
        SceneClass("unlabelled", (0, 0, 0), void=True),
    )


def spread_color(index: int) -> Color:
    """A colour for class `index`, unlike those of its neighbours in the list, never black."""
    hue = index * 0.6180339887 % 1
    saturation, value = ((1.0, 1.0), (0.55, 1.0), (1.0, 0.7), (0.5, 0.75), (0.85, 0.45))[index % 5]
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return (round(red * 255), round(green * 255), round(blue * 255))
