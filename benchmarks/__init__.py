"""Figures: how long the stages take and how good they are, against peers measured in the same run."""
