"""What a run has found, for people: one HTML file that needs no network, and Markdown for a pull request."""
