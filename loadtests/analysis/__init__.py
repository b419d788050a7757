"""What records say: metrics, statistics, objectives, the search, and whether to believe it. Pure."""
