"""Intake: from what people have to a clean original state dict, in small steps that say what they did."""
