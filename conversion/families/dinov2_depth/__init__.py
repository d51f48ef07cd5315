"""DINOv2 with its authors' depth head, as DPT has it, trained on NYU Depth v2 or KITTI."""
