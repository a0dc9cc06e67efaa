"""Pictures to Datasets of what is inside every block."""
