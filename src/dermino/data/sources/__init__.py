"""One file per publisher: each reads the publisher's layout into a Manifest."""
