"""Algorithms (recipes), the loop that fits them, and the one fitted type."""
