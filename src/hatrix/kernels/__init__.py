"""Compiled kernels: serial, pure, GIL-free functions on arrays, and the module that runs them in threads."""
