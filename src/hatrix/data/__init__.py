"""Ratings: reading them, naming them, splitting them, making them up."""
