"""How good a model is, where it is wrong, and the report that shows it."""
