"""The Frechet inception distance between sets of images: features of each image, and the distance of two sets."""
