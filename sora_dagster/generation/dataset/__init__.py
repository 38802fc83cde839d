"""Reading prompt datasets: files, cells, rows, and all their problems at once."""
