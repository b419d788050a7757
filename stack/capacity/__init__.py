"""How much of a machine a model takes, how quick it is, whom that serves. Pure: numbers in, numbers out."""
