"""Pictures and class names to label maps."""
