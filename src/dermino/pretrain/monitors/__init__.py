"""What a run shows of its features while it trains, so that a collapse does not go unnoticed."""
