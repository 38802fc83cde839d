"""Generating a storyboard, shot by shot."""
