"""What a person may say about a platform, and the one reader of it."""
