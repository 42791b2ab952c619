"""The kernels themselves: the only modules that import triton, and only when one is launched."""
