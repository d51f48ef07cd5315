"""Recognise, convert and restore a state dict. Pure: nothing is read or written."""
