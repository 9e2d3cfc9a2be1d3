"""Decisions and gaps between groups of patients."""
