"""The git repository of the current directory, read without running git or anything that the repository configures."""
