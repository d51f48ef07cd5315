"""Constants of image processing that several families share."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

BICUBIC = 3
"""Pillow's number for bicubic, as image processors write it."""
