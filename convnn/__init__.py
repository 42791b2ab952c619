"""A terminal experiment launcher for Convolutional Nearest Neighbour networks."""
