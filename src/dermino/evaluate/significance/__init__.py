"""Intervals and tests for the difference between encoders; plain functions of arrays."""
