"""How good folders of images are, measured so that anyone can repeat it. Nothing here knows a recipe."""
