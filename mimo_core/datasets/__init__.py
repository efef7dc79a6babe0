"""What SOURCE and REFERENCE name: images, lists of them, and which reference belongs to which image."""
