"""Downloading finished videos safely and completely."""
