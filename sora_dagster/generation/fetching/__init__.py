"""Downloading finished videos, safely and whole."""
