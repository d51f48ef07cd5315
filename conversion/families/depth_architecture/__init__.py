"""DINOv2 with a depth head made like DPT's: what its authors' heads and Depth Anything have in common."""
