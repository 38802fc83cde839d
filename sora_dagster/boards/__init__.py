"""Storyboards as assets."""
