"""Compiled kernels: serial, pure, GIL-free functions on arrays, and the one module that runs them in threads."""
