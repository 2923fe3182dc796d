"""Tests of RULER's tasks."""
