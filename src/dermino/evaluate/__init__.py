"""What an encoder is worth: features, tasks, protocols, metrics and their intervals."""
