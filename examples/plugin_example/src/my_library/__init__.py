"""A library with an operator of its own, and a model that uses it."""
