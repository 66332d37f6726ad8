"""Timings. Never part of the tests."""
