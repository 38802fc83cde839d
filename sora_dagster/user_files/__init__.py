"""Files that users write: text, YAML with lines, and all problems of a file in one error."""
