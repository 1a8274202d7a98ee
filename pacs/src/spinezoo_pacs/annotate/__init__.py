"""First outlines for people to correct, and what they corrected as outlines for training."""
