"""Parts that two or more recipes use unchanged."""
