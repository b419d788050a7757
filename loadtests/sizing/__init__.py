"""How many people a machine serves, and what to buy: from its plan, from load runs, or from both."""
