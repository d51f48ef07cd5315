"""What the authors published, as tables: ``variants.py`` makes a row a checkpoint of them."""

from conversion.families.images import HALF, IMAGENET_MEAN, IMAGENET_STD

DINOV2_URL = "https://dl.fbaipublicfiles.com/dinov2"
DINOV3_URL = "https://dl.fbaipublicfiles.com/dinov3"
DATA2VEC_VISION_URL = "https://dl.fbaipublicfiles.com/fairseq/data2vec/data2vec_vision"
BEIT_URL = "https://github.com/addf400/files/releases/download"

HUB_URL = "https://huggingface.co"

IMAGENET = "imagenet-1k"

# size     embed_dim depth heads  ffn       hub name
DINOV2_SIZES = {
    "vits14": (384,  12,   6,    "mlp",    "small"),
    "vitb14": (768,  12,   12,   "mlp",    "base"),
    "vitl14": (1024, 24,   16,   "mlp",    "large"),
    "vitg14": (1536, 40,   24,   "swiglu", "giant"),
}  # fmt: skip

# what a depth head of DINOv2's authors was trained on, to its largest depth in metres
DINOV2_DEPTHS = {"nyu": 10, "kitti": 80}

# size         embed_dim depth heads  hidden gated  hash in the name of its file, by what it was trained on
DINOV3_SIZES = {
    "vits16":     (384,  12,   6,     1536,  False, {"lvd1689m": "08c60483"}),
    "vits16plus": (384,  12,   6,     1536,  True,  {"lvd1689m": "4057cbaa"}),
    "vitb16":     (768,  12,   12,    3072,  False, {"lvd1689m": "73cec8be"}),
    "vitl16":     (1024, 24,   16,    4096,  False, {"lvd1689m": "8aa4cbdd", "sat493m": "eadcf0ff"}),
    "vith16plus": (1280, 32,   20,    5120,  True,  {"lvd1689m": "7c1da9a5"}),
    "vit7b16":    (4096, 40,   32,    8192,  True,  {"lvd1689m": "a955f4ea", "sat493m": "a6675841"}),
}  # fmt: skip

# mean and std of the images
DINOV3_IMAGES = {
    "lvd1689m": (IMAGENET_MEAN, IMAGENET_STD),
    "sat493m":  ((0.430, 0.411, 0.296), (0.213, 0.156, 0.143)),
}  # fmt: skip

# size    embed_dim depth heads  blocks that the segmentation head sees
BEIT_SIZES = {
    "base":  (768,  12,   12,   (3, 5, 7, 11)),
    "large": (1024, 24,   16,   (7, 11, 15, 23)),
}  # fmt: skip

# of what all its models have in common, what a model of this task has; its entry in its file, which the authors'
# fine-tuning reads, and that file; its segmentation models are not published
DATA2VEC_VISION_TASKS = {
    "": (
        {"task": "backbone", "shared_position_bias": True, "mask_token": True, "image_mean": IMAGENET_MEAN,
         "image_std": IMAGENET_STD},
        "model",
        {"base": f"{DATA2VEC_VISION_URL}/base_800/checkpoint-799.pth",
         "large": f"{DATA2VEC_VISION_URL}/large_800/checkpoint-799.pth"},
    ),
    "_ft1k": (
        {"task": "image-classification", "block_position_bias": True, "mean_pooling": True, "num_classes": 1000,
         "image_mean": HALF, "image_std": HALF},
        "module",
        {"base": f"{DATA2VEC_VISION_URL}/finetuned_base/checkpoint-99/mp_rank_00_model_states.pt",
         "large": f"{DATA2VEC_VISION_URL}/finetuned_large/checkpoint-49/mp_rank_00_model_states.pt"},
    ),
    "_ade20k": (
        {"task": "semantic-segmentation", "block_position_bias": True, "mean_pooling": True, "image_size": 512,
         "num_classes": 150, "pool_scales": (1, 2, 3, 6), "auxiliary_channels": 256, "image_mean": IMAGENET_MEAN,
         "image_std": IMAGENET_STD, "crop_pct": 1.0},
        "state_dict",
        {"base": "upernet_data2vec_vision_base_ade20k.pth", "large": "upernet_data2vec_vision_large_ade20k.pth"},
    ),
}  # fmt: skip

# what a BEiT of this kind has
BEIT_KINDS = {
    "pretrained":   {"task": "masked-image-modeling", "shared_position_bias": True, "mask_token": True,
                     "vocab_size": 8192},
    "classifier":   {"task": "image-classification", "block_position_bias": True, "mean_pooling": True},
    "segmentation": {"task": "semantic-segmentation", "block_position_bias": True, "mean_pooling": True,
                     "pool_scales": (1, 2, 3, 6), "auxiliary_channels": 256},
}  # fmt: skip

# name of the file, "{}" its size: kind, number of classes, side of the images, and name on the Hub, if it is there
BEIT_FILES = {
    "beit_{}_patch16_224_pt22k":                 ("pretrained",   0,     224, "beit-{}-patch16-224-pt22k"),
    "beit_{}_patch16_224_pt22k_ft22k":           ("classifier",   21841, 224, "beit-{}-patch16-224-pt22k-ft22k"),
    "beit_{}_patch16_224_pt22k_ft1k":            ("classifier",   1000,  224, ""),
    "beit_{}_patch16_224_pt22k_ft22kto1k":       ("classifier",   1000,  224, "beit-{}-patch16-224"),
    "beit_{}_patch16_384_pt22k_ft22kto1k":       ("classifier",   1000,  384, "beit-{}-patch16-384"),
    "beit_{}_patch16_512_pt22k_ft22kto1k":       ("classifier",   1000,  512, "beit-{}-patch16-512"),
    "beit_{}_patch16_640_pt22k_ft22ktoade20k":   ("segmentation", 150,   640, "beit-{}-finetuned-ade-640-640"),
    "beitv2_{}_patch16_224_pt1k":                ("pretrained",   0,     224, ""),
    "beitv2_{}_patch16_224_pt1k_300e":           ("pretrained",   0,     224, ""),
    "beitv2_{}_patch16_224_pt1k_ft21k":          ("classifier",   21841, 224, ""),
    "beitv2_{}_patch16_224_pt1k_ft1k":           ("classifier",   1000,  224, ""),
    "beitv2_{}_patch16_224_pt1k_300e_ft1k":      ("classifier",   1000,  224, ""),
    "beitv2_{}_patch16_224_pt1k_ft21kto1k":      ("classifier",   1000,  224, ""),
    "beitv2_{}_patch16_224_pt1k_ftade20k":       ("segmentation", 150,   512, ""),
    "beitv2_{}_patch16_224_pt1k_ft21ktoade20k":  ("segmentation", 150,   512, ""),
}  # fmt: skip

ONLY_LARGE = "_512_"
"""In the name of a BEiT that no base model is published of."""

# size: width of the sum of maps, channels of each map, name on the Hub, license of V2
DEPTH_ANYTHING_SIZES = {
    "vits": (64,  (48, 96, 192, 384),     "Small", "apache-2.0"),
    "vitb": (128, (96, 192, 384, 768),    "Base",  "cc-by-nc-4.0"),
    "vitl": (256, (256, 512, 1024, 1024), "Large", "cc-by-nc-4.0"),
}  # fmt: skip

OUT_INDICES = {12: (2, 5, 8, 11), 24: (4, 11, 17, 23), 40: (9, 19, 29, 39)}
"""The blocks that DINOv2's depth heads and Depth Anything V2's see, counted from 0, by the number of all blocks."""

V1_BLOCKS = {"vits": (8, 9, 10, 11), "vitb": (8, 9, 10, 11), "vitl": (20, 21, 22, 23)}
"""The blocks that the head of Depth Anything V1 sees, counted from 0: the last ones."""

# name of the file, "{}" its size: largest depth in metres, or 0; where the file is, and the name on the Hub, "{}" the
# size there, in small letters of V1
DEPTH_ANYTHING_FILES = {
    "depth_anything_{}14":                   (0,  "spaces/LiheYoung/Depth-Anything/resolve/main/checkpoints",
                                              "LiheYoung", "depth-anything-{}-hf"),
    "depth_anything_v2_{}":                  (0,  "depth-anything/Depth-Anything-V2-{}/resolve/main",
                                              "depth-anything", "Depth-Anything-V2-{}-hf"),
    "depth_anything_v2_metric_hypersim_{}":  (20, "depth-anything/Depth-Anything-V2-Metric-Hypersim-{}/resolve/main",
                                              "depth-anything", "Depth-Anything-V2-Metric-Indoor-{}-hf"),
    "depth_anything_v2_metric_vkitti_{}":    (80, "depth-anything/Depth-Anything-V2-Metric-VKITTI-{}/resolve/main",
                                              "depth-anything", "Depth-Anything-V2-Metric-Outdoor-{}-hf"),
}  # fmt: skip
