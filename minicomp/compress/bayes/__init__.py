"""Weights as random variables: what a posterior does not know need not be stored."""
