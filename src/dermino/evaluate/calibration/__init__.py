"""Whether probabilities mean what they say, and what can be promised with them."""
