"""The vector database behind document questions."""
