"""DINOv3's vision transformers."""
