"""Depth Anything, V1 and V2: DINOv2 with a depth head, whose depth is relative or in metres."""
