"""The gallery: one HTML page that shows a dataset's clips."""
