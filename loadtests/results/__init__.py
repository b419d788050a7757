"""What a run has found, in a form of its own: `schema`, what makes it from records, and the files it is kept in."""
