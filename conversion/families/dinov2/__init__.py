"""DINOv2, plain and with registers, as backbone and as 1-layer ImageNet classifier."""
